-- The orders that hold units of pools, allocated and not released: a changed policy may release them. $1 pool ids, locked.
SELECT DISTINCT order_id FROM lines
WHERE pool_id = ANY ($1::bigint[]) AND quantity_allocated > quantity_shipped + quantity_released
