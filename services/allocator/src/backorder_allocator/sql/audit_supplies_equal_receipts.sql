-- Invariant 3: what came of a supply is what all receipts add up to that name it, at whatever location.
WITH came AS (
    SELECT p.sku, m.supply_id, sum(m.quantity) AS units
    FROM stock_movements m JOIN pools p USING (pool_id)
    WHERE m.kind = 'received' AND m.supply_id IS NOT NULL
    GROUP BY p.sku, m.supply_id
), found AS (
    SELECT coalesce(s.received, 0) <> coalesce(c.units, 0) OR s.sku IS NULL AS broken,
           format('supply %s of %s: counts %s received, receipts have %s', supply_id, sku, s.received, coalesce(c.units, 0)) AS what,
           jsonb_build_object('sku', sku, 'supply_id', supply_id) AS about
    FROM supplies s FULL JOIN came c USING (sku, supply_id)
)
SELECT count(*) AS checked, count(*) FILTER (WHERE broken) AS broken, (array_agg(what) FILTER (WHERE broken))[1:5] AS examples,
       (array_agg(about) FILTER (WHERE broken))[1] AS about
FROM found
