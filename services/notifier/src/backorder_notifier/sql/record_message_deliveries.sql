-- One row for each channel of a message: due, or withheld for a reason. Of a message that is decided again, a delivery
-- that was withdrawn is due again, with the tries it had; one that waits goes on waiting; one that has an end keeps it.
-- $1 timestamptz now; one array a column: $2 delivery_id, $3 message_id, $4 order_id, $5 channel, $6 state, $7 reason,
-- $8 due_at.
INSERT INTO deliveries (
    delivery_id, message_id, order_id, channel, state, reason, due_at, recorded_at, settled_at
)
SELECT
    batch.delivery_id, batch.message_id, batch.order_id, batch.channel, batch.state, batch.reason, batch.due_at,
    $1::timestamptz, CASE WHEN batch.state = 'withheld' THEN $1::timestamptz END
FROM unnest(
    $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::timestamptz[]
) AS batch (delivery_id, message_id, order_id, channel, state, reason, due_at)
ON CONFLICT (message_id, channel) DO UPDATE
SET state = excluded.state,
    reason = excluded.reason,
    due_at = greatest(deliveries.due_at, excluded.due_at),
    settled_at = excluded.settled_at
WHERE deliveries.state = 'superseded'
RETURNING delivery_id, state
