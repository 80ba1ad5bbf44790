-- Locks an order for a person who has something told again. Its customer needs no lock: nothing of theirs is changed.
-- $1 text order id.
SELECT order_id, dossier::text AS dossier FROM orders WHERE order_id = $1::text FOR UPDATE
