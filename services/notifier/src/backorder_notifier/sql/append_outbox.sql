-- Outcomes to be published, with the next versions of their orders. Their orders are locked, and the counters move in
-- the same transaction, so versions have no gap and a lower one commits first. Of the last one the order keeps what tells
-- it from any other, also when it is published and gone from here.
-- One array a column: $1 order_id, $2 version, $3 record_key, $4 record_value, $5 header_names and $6 header_values as
-- JSON of hex.
WITH batch AS MATERIALIZED (
    SELECT *
    FROM unnest(
        $1::text[], $2::bigint[], $3::bytea[], $4::bytea[], $5::jsonb[], $6::jsonb[]
    ) AS batch (order_id, version, record_key, record_value, header_names, header_values)
),
known AS (
    UPDATE orders
    SET outcome_digest = sha256(last.record_value)
    FROM (SELECT DISTINCT ON (order_id) order_id, record_value FROM batch ORDER BY order_id, version DESC) AS last
    WHERE orders.order_id = last.order_id
)
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
FROM batch
ORDER BY batch.order_id, batch.version
