-- Takes orders whose time to decide has come, the longest due first, locked. One that another teller has is passed by
-- (SKIP LOCKED), so that several share the work; who tells doesn't matter. Customers are locked after them here, and
-- passed by as well: whoever never waits for a lock can't be in a deadlock.
-- $1 timestamptz now, $2 integer at most.
SELECT
    order_id, customer_id,
    EXISTS (SELECT FROM customers WHERE customers.customer_id = orders.customer_id) AS has_customer,
    order_url, delivery, dossier, told, messages, outcome_version, tell_at
FROM orders
WHERE tell_at <= $1::timestamptz AND known_at IS NOT NULL
ORDER BY tell_at
LIMIT $2::integer
FOR UPDATE OF orders SKIP LOCKED
