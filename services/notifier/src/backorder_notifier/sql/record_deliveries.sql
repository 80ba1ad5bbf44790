-- Intents to tell, before anything is sent. Their orders are locked.
-- $1 timestamptz now, then one array a column: $2 delivery_id, $3 order_id, $4 position, $5 kind, $6 channel, $7 state,
-- $8 reason, $9 settled_at, $10 traceparent.
INSERT INTO deliveries (
    delivery_id, order_id, position, kind, channel, state, reason, due_at, recorded_at, settled_at, traceparent
)
SELECT
    batch.delivery_id, batch.order_id, batch.position, batch.kind, batch.channel, batch.state, batch.reason,
    $1::timestamptz, $1::timestamptz, batch.settled_at, batch.traceparent
FROM unnest(
    $2::uuid[], $3::text[], $4::integer[], $5::text[], $6::text[], $7::text[], $8::text[], $9::timestamptz[], $10::text[]
) AS batch (delivery_id, order_id, position, kind, channel, state, reason, settled_at, traceparent)
