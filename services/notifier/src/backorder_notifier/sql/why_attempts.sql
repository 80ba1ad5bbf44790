-- Every try of an order's deliveries.
-- $1 text order id.
SELECT attempts.delivery_id, attempts.attempt, attempts.at, attempts.outcome, attempts.reason
FROM attempts
JOIN deliveries ON deliveries.delivery_id = attempts.delivery_id
JOIN messages ON messages.message_id = deliveries.message_id
WHERE messages.order_id = $1::text
ORDER BY attempts.at, attempts.delivery_id, attempts.attempt
