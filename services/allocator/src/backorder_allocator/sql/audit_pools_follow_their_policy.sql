-- Every pool carries the newest policy of its SKU, and says that stock is low exactly while it is.
WITH found AS (
    SELECT p.policy_revision <> coalesce(y.revision, 0)
           OR y.sku IS NULL AND p.preorder_over
           OR y.sku IS NOT NULL AND (p.safety_stock, p.preorder_over) IS DISTINCT FROM (y.safety_stock, y.preorder_over) AS broken,
           format('%s at %s: policy %s with safety stock %s, its SKU has policy %s with %s', p.sku, p.location, p.policy_revision,
                  p.safety_stock, coalesce(y.revision, 0), coalesce(y.safety_stock::text, 'the default')) AS what,
           jsonb_build_object('sku', p.sku, 'location', p.location) AS about
    FROM pools p LEFT JOIN policies y USING (sku) WHERE p.named
    UNION ALL
    SELECT p.low IS DISTINCT FROM coalesce(greatest(0, p.on_hand - p.allocated - p.safety_stock) <= y.low_stock_at, false),
           format('%s at %s: %s available, low at %s, said to be low: %s', p.sku, p.location,
                  greatest(0, p.on_hand - p.allocated - p.safety_stock), y.low_stock_at, p.low), jsonb_build_object('sku', p.sku, 'location', p.location)
    FROM pools p JOIN policies y USING (sku) WHERE p.named
)
SELECT count(*) AS checked, count(*) FILTER (WHERE broken) AS broken, (array_agg(what) FILTER (WHERE broken))[1:5] AS examples,
       (array_agg(about) FILTER (WHERE broken))[1] AS about
FROM found
