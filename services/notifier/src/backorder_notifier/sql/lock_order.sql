-- One order, locked: before its delivery is settled and its outcome gets the next version.
-- $1 text order id.
SELECT order_id, known_at, customer_id, withheld, deliveries, outcome_version
FROM orders
WHERE order_id = $1::text
FOR UPDATE
