-- Locks the order of a delivery that gets its end: before the delivery, as everywhere.
-- $1 text order id.
SELECT outcome_version FROM orders WHERE order_id = $1::text FOR UPDATE
