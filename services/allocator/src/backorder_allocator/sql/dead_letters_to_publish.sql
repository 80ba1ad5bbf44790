-- Dead letters that are not on their topic yet, oldest first, at least one where there are any. Each may have many MiB: a portion
-- that fits into memory. $1 how many at most, $2 no more once their values have so many bytes.
SELECT d.dead_letter_id, topic, partition, record_offset, topics_ago, record_at, reason, detail, failed_at, published, redrives,
       redriven_at, newest_reason, newest_detail, resolved_at, outcome, key, value, header_names, header_values
FROM dead_letters d
JOIN (
    SELECT dead_letter_id, sum(bytes) OVER (ORDER BY dead_letter_id) - bytes AS bytes_before
    FROM (
        SELECT dead_letter_id, coalesce(octet_length(value), 0) AS bytes
        FROM dead_letters WHERE NOT published ORDER BY dead_letter_id LIMIT $1::integer
    ) AS next
) AS portion USING (dead_letter_id)
WHERE bytes_before < $2::bigint
ORDER BY d.dead_letter_id
