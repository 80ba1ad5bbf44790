-- To which pools supplies belong that are named without their location. $1 supply ids, $2 SKUs. No locks: it is compared
-- again once the supplies are locked.
WITH named AS (SELECT * FROM unnest($1::text[], $2::text[]) AS n (supply_id, sku))
SELECT s.pool_id FROM supplies s JOIN named USING (sku, supply_id) WHERE s.pool_id IS NOT NULL
