-- The next dead letters to be published on notifier.dlq, at least one where there are any. Only the holder of the
-- relay's lease asks. Each may be 1 MiB: as many as one attempt can bring to Kafka in its time, and memory can hold.
-- $1 integer at most, $2 bigint bytes of their values at most (the last may go beyond).
SELECT
    dead_letter_id, topic, full_topic, partition, record_offset, recorded_at, record_key, record_value, header_names,
    header_values, reason, detail, failed_at, published_at, redriven_at
FROM dead_letters
WHERE dead_letter_id IN (
    SELECT first.dead_letter_id
    FROM (
        SELECT
            oldest.dead_letter_id,
            sum(oldest.bytes) OVER (ORDER BY oldest.dead_letter_id) - oldest.bytes AS bytes_before
        FROM (
            SELECT dead_letter_id, coalesce(octet_length(record_value), 0) AS bytes
            FROM dead_letters
            WHERE published_at IS NULL
            ORDER BY dead_letter_id
            LIMIT $1::integer
        ) AS oldest
    ) AS first
    WHERE first.bytes_before < $2::bigint
)
ORDER BY dead_letter_id
