-- How orders stand after a batch, and when to decide next what to tell. The rows are locked by lock_orders. One that was
-- purged has something to purge again.
-- One array a column: $1 order_id, $2 dossier (jsonb), $3 told (jsonb), $4 tell_at (timestamptz).
UPDATE orders
SET dossier = batch.dossier, told = batch.told, tell_at = batch.tell_at, purged_at = NULL
FROM unnest($1::text[], $2::jsonb[], $3::jsonb[], $4::timestamptz[]) AS batch (order_id, dossier, told, tell_at)
WHERE orders.order_id = batch.order_id
