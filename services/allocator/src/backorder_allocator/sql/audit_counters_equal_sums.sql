-- Invariant 3: what a pool counts is what its lines add up to, and every line has its pool.
WITH sums AS (
    SELECT pool_id, sum(quantity_allocated - quantity_shipped) AS allocated, sum(quantity_waiting) AS waiting
    FROM lines GROUP BY pool_id
), found AS (
    SELECT p.pool_id IS NULL OR p.allocated <> coalesce(s.allocated, 0) OR p.waiting <> coalesce(s.waiting, 0) AS broken,
           format('%s at %s: counts %s allocated and %s waiting, lines have %s and %s', p.sku, p.location, p.allocated, p.waiting,
                  coalesce(s.allocated, 0), coalesce(s.waiting, 0)) AS what,
           jsonb_build_object('sku', p.sku, 'location', p.location) AS about
    FROM pools p FULL JOIN sums s USING (pool_id)
)
SELECT count(*) AS checked, count(*) FILTER (WHERE broken) AS broken, (array_agg(what) FILTER (WHERE broken))[1:5] AS examples,
       (array_agg(about) FILTER (WHERE broken))[1] AS about
FROM found
