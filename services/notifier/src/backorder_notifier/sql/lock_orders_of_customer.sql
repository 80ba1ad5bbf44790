-- Some orders of a customer and the addresses they name, locked in order_id order (byte order).
-- $1 text customer id, $2 text: after this order id, $3 integer at most.
SELECT order_id, email, phone
FROM orders
WHERE customer_id = $1::text AND order_id COLLATE "C" > $2::text
ORDER BY order_id COLLATE "C"
LIMIT $3::integer
FOR UPDATE
