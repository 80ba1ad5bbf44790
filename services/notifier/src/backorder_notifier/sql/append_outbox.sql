-- Outcomes to be published, with the next versions of their orders. Their orders are locked, and the counters move in
-- the same transaction, so versions have no gap and a lower one commits first.
-- One array a column: $1 order_id, $2 version, $3 record_key, $4 record_value, $5 header_names and $6 header_values as
-- JSON of hex.
INSERT INTO outbox (order_id, version, record_key, record_value, header_names, header_values)
SELECT
    batch.order_id, batch.version, batch.record_key, batch.record_value,
    ARRAY(
        SELECT decode(name, 'hex')
        FROM jsonb_array_elements_text(batch.header_names) WITH ORDINALITY AS names (name, ordinal)
        ORDER BY ordinal
    ),
    ARRAY(
        SELECT decode(value, 'hex')
        FROM jsonb_array_elements_text(batch.header_values) WITH ORDINALITY AS header_values (value, ordinal)
        ORDER BY ordinal
    )
FROM unnest(
    $1::text[], $2::bigint[], $3::bytea[], $4::bytea[], $5::jsonb[], $6::jsonb[]
) AS batch (order_id, version, record_key, record_value, header_names, header_values)
ORDER BY batch.order_id, batch.version
