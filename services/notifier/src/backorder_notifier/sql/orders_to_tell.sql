-- Orders whose time to decide has come, the longest due first. Nothing is locked: who takes one asks again under its lock.
-- $1 timestamptz now, $2 integer at most.
SELECT
    orders.order_id, orders.customer_id,
    EXISTS (SELECT FROM customers WHERE customers.customer_id = orders.customer_id) AS has_customer
FROM orders
WHERE orders.tell_at <= $1::timestamptz AND orders.known_at IS NOT NULL
ORDER BY orders.tell_at
LIMIT $2::integer
