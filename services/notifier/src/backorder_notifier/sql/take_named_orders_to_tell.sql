-- Takes these orders again, as far as they are still to be decided on, locked; those that another has are passed by.
-- $1 timestamptz now, $2 text[] order ids.
SELECT
    orders.order_id, orders.customer_id, customers.customer_id IS NOT NULL AS has_customer,
    orders.order_url, orders.delivery, orders.dossier, orders.told, orders.messages, orders.outcome_version, orders.tell_at
FROM orders
LEFT JOIN customers ON customers.customer_id = orders.customer_id
WHERE orders.order_id = ANY ($2::text[]) AND orders.tell_at <= $1::timestamptz AND orders.known_at IS NOT NULL
ORDER BY orders.tell_at
FOR UPDATE OF orders SKIP LOCKED
