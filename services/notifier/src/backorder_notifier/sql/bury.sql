-- Messages that can't be used, byte for byte, in the transaction that moves past them. A record once.
-- $1 timestamptz now, then one array a column: $2 topic, $3 full_topic, $4 partition, $5 record_offset, $6 recorded_at,
-- $7 record_key, $8 record_value, $9 header_names and $10 header_values as JSON of hex, $11 reason, $12 detail.
INSERT INTO dead_letters (
    topic, full_topic, partition, record_offset, recorded_at, record_key, record_value, header_names, header_values,
    reason, detail, failed_at
)
SELECT
    batch.topic, batch.full_topic, batch.partition, batch.record_offset, batch.recorded_at, batch.record_key,
    batch.record_value,
    ARRAY(
        SELECT decode(name, 'hex')
        FROM jsonb_array_elements_text(batch.header_names) WITH ORDINALITY AS names (name, ordinal)
        ORDER BY ordinal
    ),
    ARRAY(
        SELECT decode(value, 'hex')
        FROM jsonb_array_elements_text(batch.header_values) WITH ORDINALITY AS header_values (value, ordinal)
        ORDER BY ordinal
    ),
    batch.reason, batch.detail, $1::timestamptz
FROM unnest(
    $2::text[], $3::text[], $4::integer[], $5::bigint[], $6::timestamptz[], $7::bytea[], $8::bytea[], $9::jsonb[],
    $10::jsonb[], $11::text[], $12::text[]
) AS batch (
    topic, full_topic, partition, record_offset, recorded_at, record_key, record_value, header_names, header_values,
    reason, detail
)
ORDER BY batch.full_topic, batch.partition, batch.record_offset
ON CONFLICT (full_topic, partition, record_offset, topics_ago) DO NOTHING
