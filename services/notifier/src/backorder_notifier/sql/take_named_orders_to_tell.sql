-- Takes these orders again, as far as they are still to be decided on, locked; those that another has are passed by.
-- $1 timestamptz now, $2 text[] order ids.
SELECT
    order_id, customer_id,
    EXISTS (SELECT FROM customers WHERE customers.customer_id = orders.customer_id) AS has_customer,
    order_url, delivery, dossier, told, messages, outcome_version, tell_at
FROM orders
WHERE order_id = ANY ($2::text[]) AND tell_at <= $1::timestamptz AND known_at IS NOT NULL
ORDER BY tell_at
FOR UPDATE OF orders SKIP LOCKED
