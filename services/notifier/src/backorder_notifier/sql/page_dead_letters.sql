-- Some dead letters with what they came with, oldest first. No lock.
-- $1 bigint: with a higher id than this, $2 integer at most, $3 bigint: no more once their values have so many bytes.
SELECT
    dead_letter_id, topic, full_topic, partition, record_offset, recorded_at, reason, failed_at, published_at, record_key,
    record_value, header_names, header_values
FROM (
    SELECT *, sum(length(record_value)) OVER (ORDER BY dead_letter_id) - length(record_value) AS bytes_before
    FROM (
        SELECT * FROM dead_letters WHERE dead_letter_id > $1::bigint ORDER BY dead_letter_id LIMIT $2::integer
    ) AS next
) AS page
WHERE coalesce(bytes_before, 0) < $3::bigint
ORDER BY dead_letter_id
