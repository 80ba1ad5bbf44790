-- The cancels that came before their order. $1 order ids, locked.
SELECT order_id, body FROM cancels WHERE order_id = ANY ($1::text[]) AND early ORDER BY id
