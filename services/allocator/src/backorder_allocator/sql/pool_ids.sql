-- The ids of pools by name; they never change. $1 SKUs, $2 locations. No locks.
WITH named AS (SELECT * FROM unnest($1::text[], $2::text[]) AS n (sku, location))
SELECT p.pool_id, p.sku, p.location FROM pools p JOIN named n ON p.sku = n.sku AND p.location = n.location
