-- Takes orders whose time to decide has come, the longest due first, locked. One that another teller has is passed by
-- (SKIP LOCKED), so that several share the work; who tells doesn't matter. Customers are locked after them here, and
-- passed by as well: whoever never waits for a lock can't be in a deadlock.
-- $1 timestamptz now, $2 integer at most.
SELECT
    orders.order_id, orders.customer_id, customers.customer_id IS NOT NULL AS has_customer,
    orders.order_url, orders.delivery, orders.dossier, orders.told, orders.messages, orders.outcome_version, orders.tell_at
FROM orders
LEFT JOIN customers ON customers.customer_id = orders.customer_id
WHERE orders.tell_at <= $1::timestamptz AND orders.known_at IS NOT NULL
ORDER BY orders.tell_at
LIMIT $2::integer
FOR UPDATE OF orders SKIP LOCKED
