-- Rows for orders not named before, in order_id order, so that there is something to lock.
-- $1 text[] order ids (sorted, distinct).
INSERT INTO orders (order_id)
SELECT order_id
FROM unnest($1::text[]) AS batch (order_id)
ORDER BY order_id COLLATE "C"
ON CONFLICT (order_id) DO NOTHING
