-- One order as it stands: what is known of it, what was told, when it is looked at next. No contact data.
-- $1 text order id.
SELECT
    orders.order_id, orders.known_at, orders.customer_id, orders.placed_at, orders.delivery, orders.dossier, orders.told,
    orders.tell_at, orders.messages, orders.outcome_version, customers.forgotten_at, customers.unsubscribed_at
FROM orders
LEFT JOIN customers ON customers.customer_id = orders.customer_id
WHERE orders.order_id = $1::text
