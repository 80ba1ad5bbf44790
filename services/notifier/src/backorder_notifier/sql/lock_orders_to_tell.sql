-- Orders to decide on, locked in order_id order (byte order), after their customers. The time is asked again: another
-- teller may have decided meanwhile. One that is locked is left for the next round.
-- $1 text[] order ids, $2 timestamptz now.
SELECT order_id, customer_id, order_url, delivery, dossier, told, messages, outcome_version, tell_at
FROM orders
WHERE order_id = ANY ($1::text[]) AND tell_at <= $2::timestamptz AND known_at IS NOT NULL
ORDER BY order_id COLLATE "C"
FOR UPDATE SKIP LOCKED
