-- Dead letters that are not on their topic yet. $1 how many at most.
SELECT dead_letter_id, topic, partition, record_offset, record_at, key, value, header_names, header_values, reason, detail,
       failed_at, redrives, resolved_at, outcome
FROM dead_letters WHERE NOT published ORDER BY dead_letter_id LIMIT $1
