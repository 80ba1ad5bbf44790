-- Rows for orders not named before, in order_id order, so that there is something to lock. Before any order is locked:
-- whoever waits here for another's new row holds nothing that the other might want.
-- $1 text[] order ids (sorted, distinct).
INSERT INTO orders (order_id)
SELECT batch.order_id
FROM unnest($1::text[]) AS batch (order_id)
WHERE NOT EXISTS (SELECT FROM orders WHERE orders.order_id = batch.order_id)
ORDER BY batch.order_id COLLATE "C"
ON CONFLICT (order_id) DO NOTHING
