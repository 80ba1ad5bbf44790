-- Customers of the orders to decide on, locked in customer_id order (byte order), so that two tellers can't both give
-- one customer the last message of a day. One that another transaction has is left for the next round (SKIP LOCKED):
-- who tells doesn't matter.
-- $1 text[] customer ids.
SELECT customer_id
FROM customers
WHERE customer_id = ANY ($1::text[])
ORDER BY customer_id COLLATE "C"
FOR UPDATE SKIP LOCKED
