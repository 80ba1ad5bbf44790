-- Messages decided on. One that was withdrawn, or waits to be sent, and is decided again tells the same and stays the
-- same (its id is made of what it tells), with the words of now.
-- $1 timestamptz now; one array a column: $2 message_id, $3 order_id, $4 customer_id, $5 position, $6 kind, $7 content,
-- $8 told, $9 about as JSON, $10 occurred_at, $11 traceparent.
INSERT INTO messages (
    message_id, order_id, customer_id, position, kind, content, told, about, occurred_at, composed_at, traceparent
)
SELECT
    batch.message_id, batch.order_id, batch.customer_id, batch.position, batch.kind, batch.content, batch.told,
    ARRAY(SELECT event_id FROM jsonb_array_elements_text(batch.about) WITH ORDINALITY AS about (event_id, n) ORDER BY n),
    batch.occurred_at, $1::timestamptz, batch.traceparent
FROM unnest(
    $2::uuid[], $3::text[], $4::text[], $5::integer[], $6::text[], $7::jsonb[], $8::jsonb[], $9::jsonb[],
    $10::timestamptz[], $11::text[]
) AS batch (message_id, order_id, customer_id, position, kind, content, told, about, occurred_at, traceparent)
ON CONFLICT (message_id) DO UPDATE
SET position = excluded.position, content = excluded.content, told = excluded.told, composed_at = excluded.composed_at
