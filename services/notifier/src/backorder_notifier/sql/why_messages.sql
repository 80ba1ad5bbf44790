-- Every message of an order, in order.
-- $1 text order id.
SELECT message_id, position, kind, content::text AS content, told::text AS told, about, composed_at
FROM messages
WHERE order_id = $1::text
ORDER BY position
