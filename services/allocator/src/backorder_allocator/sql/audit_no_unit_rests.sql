-- Invariant 4: no pool has an available unit, beyond its safety stock, while a line waits.
WITH found AS (
    SELECT waiting > 0 AND on_hand - allocated > safety_stock AS broken,
           format('%s at %s: %s wait, %s are available', sku, location, waiting, on_hand - allocated - safety_stock) AS what,
           jsonb_build_object('sku', sku, 'location', location) AS about
    FROM pools
)
SELECT count(*) AS checked, count(*) FILTER (WHERE broken) AS broken, (array_agg(what) FILTER (WHERE broken))[1:5] AS examples,
       (array_agg(about) FILTER (WHERE broken))[1] AS about
FROM found
