-- The next dead letters to be published on notifier.dlq. Only the holder of the relay's lease asks.
-- $1 integer at most.
SELECT
    dead_letter_id, topic, full_topic, partition, record_offset, recorded_at, record_key, record_value, header_names,
    header_values, reason, detail, failed_at, published_at, redriven_at
FROM dead_letters
WHERE published_at IS NULL
ORDER BY dead_letter_id
LIMIT $1::integer
