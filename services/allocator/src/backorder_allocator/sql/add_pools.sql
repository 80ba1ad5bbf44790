-- Makes pools that have no row yet, so that there is one to lock, with the policy in force of their SKU. $1 SKUs, $2 locations.
-- Runs before the batch's transaction, under share_policies: an empty pool harms nobody, and no batch waits for another's.
WITH wanted AS (SELECT * FROM unnest($1::text[], $2::text[]) AS w (sku, location))
INSERT INTO pools (sku, location, policy_revision, safety_stock, preorder_over)
SELECT w.sku, w.location, coalesce(p.revision, 0), coalesce(p.safety_stock, 0), coalesce(p.preorder_over, false)
FROM wanted w LEFT JOIN policies p USING (sku)
ORDER BY w.sku, w.location
ON CONFLICT DO NOTHING
