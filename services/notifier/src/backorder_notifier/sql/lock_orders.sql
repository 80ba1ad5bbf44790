-- Orders of a batch, locked in order_id order (byte order, as everywhere: two batches that touch A,B and B,A would deadlock).
-- After this an OrderPlaced and an event of the same order can't pass each other unseen in two processes.
-- $1 text[] order ids.
SELECT order_id, known_at, customer_id, withheld, deliveries, outcome_version
FROM orders
WHERE order_id = ANY ($1::text[])
ORDER BY order_id COLLATE "C"
FOR UPDATE
