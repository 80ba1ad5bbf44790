-- Orders of a customer with open deliveries of some kinds, locked in order_id order (byte order). The customer is locked.
-- $1 text customer id, $2 text[] kinds.
SELECT order_id
FROM orders
WHERE order_id IN (
    SELECT deliveries.order_id
    FROM orders AS of_customer
    JOIN deliveries ON deliveries.order_id = of_customer.order_id AND deliveries.state = 'due'
    JOIN messages ON messages.message_id = deliveries.message_id
    WHERE of_customer.customer_id = $1::text AND messages.kind = ANY ($2::text[])
)
ORDER BY order_id COLLATE "C"
FOR UPDATE
