-- Says at the pending updates of orders why nothing was decided. The orders are locked.
-- $1 text[] order ids, $2 text reason.
UPDATE updates SET reason = $2::text WHERE order_id = ANY ($1::text[]) AND state = 'pending'
