-- The shipments that wait for their orders, in the order in which they came. $1 order ids, locked.
SELECT order_id, body FROM fulfilments WHERE order_id = ANY ($1::text[]) AND waits ORDER BY order_id, batch_id, ordinal
