-- Deliveries of a copied message, due now.
-- $1 uuid of the copy, $2 uuid[] delivery ids, $3 text[] channels, $4 timestamptz now.
INSERT INTO deliveries (delivery_id, message_id, order_id, channel, state, due_at, recorded_at)
SELECT batch.delivery_id, messages.message_id, messages.order_id, batch.channel, 'due', $4::timestamptz, $4::timestamptz
FROM messages
CROSS JOIN unnest($2::uuid[], $3::text[]) AS batch (delivery_id, channel)
WHERE messages.message_id = $1::uuid
