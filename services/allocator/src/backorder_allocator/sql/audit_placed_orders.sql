-- What orders were placed with. $1 order ids.
SELECT order_id, fingerprint FROM orders WHERE order_id = ANY ($1::text[]) AND fingerprint IS NOT NULL
