-- What people did about an order.
-- $1 text order id.
SELECT at, by, what, delivery_id, message_id, note FROM interventions WHERE order_id = $1::text ORDER BY intervention_id
