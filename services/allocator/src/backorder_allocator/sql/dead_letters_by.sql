-- Dead letters, oldest first. $1 one id or null, $2 reason or null, $3 also those that were resolved, $4 how many at most.
SELECT dead_letter_id, topic, partition, record_offset, record_at, key, value, header_names, header_values, reason, detail,
       failed_at, redrives, resolved_at, outcome
FROM dead_letters
WHERE ($1::bigint IS NULL OR dead_letter_id = $1) AND ($2::text IS NULL OR reason = $2) AND ($3::boolean OR resolved_at IS NULL)
ORDER BY dead_letter_id
LIMIT $4
