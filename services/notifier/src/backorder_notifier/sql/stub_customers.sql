-- Rows for customers not named before, in customer_id order (byte order), so that there is something to lock; each with
-- the token of its unsubscribe links.
-- $1 text[] customer ids (distinct), $2 text[] tokens.
INSERT INTO customers (customer_id, unsubscribe_token)
SELECT customer_id, token
FROM unnest($1::text[], $2::text[]) AS batch (customer_id, token)
ORDER BY customer_id COLLATE "C"
ON CONFLICT (customer_id) DO NOTHING
