-- The pools of SKUs that somebody named, as they are. $1 SKUs, $2 one location or null.
SELECT pool_id, sku, location, on_hand, allocated, waiting, counted_at, safety_stock, preorder_over, low, stale_since,
       queue_end
FROM pools WHERE sku = ANY ($1::text[]) AND ($2::text IS NULL OR location = $2) AND named
ORDER BY sku, location
