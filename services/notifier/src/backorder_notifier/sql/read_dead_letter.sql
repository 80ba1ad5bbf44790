-- One dead letter.
-- $1 bigint dead letter id.
SELECT
    dead_letter_id, topic, full_topic, partition, record_offset, recorded_at, record_key, record_value, header_names,
    header_values, reason, detail, failed_at, published_at, redriven_at
FROM dead_letters
WHERE dead_letter_id = $1::bigint
