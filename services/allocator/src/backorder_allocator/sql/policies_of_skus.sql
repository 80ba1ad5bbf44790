-- The newest policies of SKUs. $1 SKUs: either a pool of the SKU is locked, or lock_policies holds it.
SELECT sku, revision, backorders, waiting_limit, max_wait_days, safety_stock, low_stock_at, release_at, default_lead_time_days,
       substitutes, preorder_over, fingerprint
FROM policies WHERE sku = ANY ($1::text[])
