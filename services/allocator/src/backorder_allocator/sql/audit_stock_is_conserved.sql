-- Invariant 1: received + adjusted - shipped = on hand; what is allocated is there.
WITH moved AS (SELECT pool_id, sum(quantity) AS quantity FROM stock_movements GROUP BY pool_id),
shipped AS (SELECT pool_id, sum(quantity_shipped) AS quantity FROM lines WHERE quantity_shipped > 0 GROUP BY pool_id),
found AS (
    SELECT p.on_hand <> coalesce(m.quantity, 0) - coalesce(s.quantity, 0) OR p.allocated > greatest(0, p.on_hand) AS broken,
           format('%s at %s: on hand %s, movements %s, shipped %s, allocated %s', p.sku, p.location, p.on_hand,
                  coalesce(m.quantity, 0), coalesce(s.quantity, 0), p.allocated) AS what,
           jsonb_build_object('sku', p.sku, 'location', p.location) AS about
    FROM pools p LEFT JOIN moved m USING (pool_id) LEFT JOIN shipped s USING (pool_id)
)
SELECT count(*) AS checked, count(*) FILTER (WHERE broken) AS broken, (array_agg(what) FILTER (WHERE broken))[1:5] AS examples,
       (array_agg(about) FILTER (WHERE broken))[1] AS about
FROM found
