-- How far customers are. $1 text[] customer ids.
SELECT customer_id, revision FROM customers WHERE customer_id = ANY ($1::text[])
