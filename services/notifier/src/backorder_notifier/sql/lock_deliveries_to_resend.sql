-- Every delivery of a locked order, locked too: from now on no sender begins with one. The newest message first.
-- $1 text order id, $2 timestamptz now.
SELECT
    deliveries.delivery_id, deliveries.message_id, deliveries.channel, deliveries.state, deliveries.reason,
    deliveries.due_at, deliveries.first_attempt_at IS NOT NULL AS tried,
    coalesce(deliveries.lease IS NOT NULL AND deliveries.due_at > $2::timestamptz, false) AS held,
    messages.position, messages.kind, messages.composed_at, messages.about
FROM deliveries
JOIN messages ON messages.message_id = deliveries.message_id
WHERE messages.order_id = $1::text
ORDER BY messages.position DESC, deliveries.channel
FOR UPDATE OF deliveries
