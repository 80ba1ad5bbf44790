-- Customers of the orders taken, locked, so that two tellers can't both give one customer the last message of a day. One
-- that another transaction has is passed by (SKIP LOCKED), and its orders are left for the next round.
-- $1 text[] customer ids.
SELECT customer_id
FROM customers
WHERE customer_id = ANY ($1::text[])
ORDER BY customer_id COLLATE "C"
FOR UPDATE SKIP LOCKED
