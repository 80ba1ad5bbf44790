-- Orders of a batch, locked in order_id order (byte order, as everywhere: two batches that touch A,B and B,A would deadlock),
-- after their customers. From here on an OrderPlaced and an event of the same order can't pass each other unseen.
-- The zone is the customer's, of what the order and the customer say what was said last.
-- $1 text[] order ids.
SELECT
    orders.order_id, orders.known_at, orders.customer_id, orders.delivery,
    coalesce(said_last(orders.timezone, orders.placed_at, customers.timezone, customers.timezone_at), 'UTC') AS timezone,
    orders.dossier::text AS dossier, orders.told::text AS told
FROM orders
LEFT JOIN customers ON customers.customer_id = orders.customer_id
WHERE orders.order_id = ANY ($1::text[])
ORDER BY orders.order_id COLLATE "C"
FOR UPDATE OF orders
