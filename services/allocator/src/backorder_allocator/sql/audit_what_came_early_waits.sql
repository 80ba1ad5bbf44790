-- Rule 9: a shipment that came before its order waits until the order comes, and no longer.
WITH found AS (
    SELECT f.waits <> (o.placed_at IS NULL) OR f.waits AND NOT f.early AS broken,
           format('shipment %s of order %s: waits %s, placed at %s', f.shipment_id, f.order_id, f.waits, o.placed_at) AS what,
           jsonb_build_object('order_id', f.order_id) AS about
    FROM fulfilments f LEFT JOIN orders o USING (order_id) WHERE f.kind = 'shipped'
)
SELECT count(*) AS checked, count(*) FILTER (WHERE broken) AS broken, (array_agg(what) FILTER (WHERE broken))[1:5] AS examples,
       (array_agg(about) FILTER (WHERE broken))[1] AS about
FROM found
