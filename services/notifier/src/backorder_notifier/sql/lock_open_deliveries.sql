-- Deliveries not settled yet of locked orders, locked too: from now on no sender begins with one. `held`: a sender has it
-- at this moment. `reached`: the customer has got the message by mail or SMS already. The orders are locked before.
-- $1 text[] order ids, $2 timestamptz now.
SELECT
    deliveries.delivery_id, deliveries.message_id, deliveries.order_id, deliveries.channel,
    coalesce(deliveries.lease IS NOT NULL AND deliveries.due_at > $2::timestamptz, false) AS held,
    EXISTS (
        SELECT
        FROM deliveries AS other
        WHERE other.message_id = deliveries.message_id AND other.state = 'sent' AND other.channel <> 'webhook'
    ) AS reached
FROM deliveries
WHERE deliveries.order_id = ANY ($1::text[]) AND deliveries.state = 'due'
ORDER BY deliveries.delivery_id
FOR UPDATE OF deliveries
