-- Keeps records that came before an earlier version of their key. Once each: a second copy changes nothing.
-- $1 timestamptz now, then one array a column: $2 topic, $3 key, $4 epoch, $5 version, $6 full_topic, $7 partition,
-- $8 record_offset, $9 recorded_at, $10 record_key, $11 record_value, $12 header_names and $13 header_values as JSON of hex.
INSERT INTO parked (
    topic, key, epoch, version, full_topic, partition, record_offset, recorded_at, record_key, record_value,
    header_names, header_values, parked_at
)
SELECT
    batch.topic, batch.key, batch.epoch, batch.version, batch.full_topic, batch.partition, batch.record_offset,
    batch.recorded_at, batch.record_key, batch.record_value,
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
    $1::timestamptz
FROM unnest(
    $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::integer[], $8::bigint[], $9::timestamptz[],
    $10::bytea[], $11::bytea[], $12::jsonb[], $13::jsonb[]
) AS batch (
    topic, key, epoch, version, full_topic, partition, record_offset, recorded_at, record_key, record_value, header_names,
    header_values
)
ON CONFLICT (topic, key, epoch, version) DO NOTHING
