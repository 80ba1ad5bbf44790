-- Every delivery of an order's messages.
-- $1 text order id.
SELECT
    delivery_id, message_id, channel, state, reason, due_at, attempts, in_doubt, first_attempt_at, recorded_at, settled_at,
    lease IS NOT NULL AS in_hand
FROM deliveries
WHERE message_id IN (SELECT messages.message_id FROM messages WHERE messages.order_id = $1::text)
ORDER BY recorded_at, message_id, channel
