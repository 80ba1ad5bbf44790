-- The pools of a SKU. $1 SKU, $2 one location or null.
SELECT pool_id, sku, location, on_hand, allocated, greatest(0, on_hand - allocated) AS available, waiting, counted_at
FROM pools WHERE sku = $1 AND ($2::text IS NULL OR location = $2)
ORDER BY location
