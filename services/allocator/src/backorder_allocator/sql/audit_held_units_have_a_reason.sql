-- Rule 7: an order holds units only until its pre-order is released, or while it must be complete and a line of it waits
-- or is in pre-order. A pre-order is over when its timer was taken, whatever the clock says.
WITH held AS (
    SELECT l.order_id, l.quantity_waiting AS waiting, l.quantity_allocated - l.quantity_shipped - l.quantity_released AS units,
           y.backorders = 'preorder' AND NOT p.preorder_over AND t.due_at IS NOT NULL AS is_preorder
    FROM lines l JOIN pools p USING (pool_id)
    LEFT JOIN policies y ON y.sku = p.sku
    LEFT JOIN timers t ON t.kind = 'release' AND t.subject = p.sku
), sums AS (
    SELECT order_id, sum(waiting) AS waiting, sum(units) AS units, coalesce(sum(units) FILTER (WHERE is_preorder), 0) AS preordered
    FROM held GROUP BY order_id
), found AS (
    SELECT CASE
               WHEN o.delivery = 'complete' AND NOT o.escalated THEN s.units > 0 AND s.waiting = 0 AND s.preordered = 0
               ELSE s.units > s.preordered
           END AS broken,
           format('order %s (%s%s) holds %s units, %s of them for a pre-order, %s wait', order_id, o.delivery,
                  CASE WHEN o.escalated THEN ', escalated' END, s.units, s.preordered, s.waiting) AS what,
           jsonb_build_object('order_id', order_id) AS about
    FROM sums s JOIN orders o USING (order_id)
)
SELECT count(*) AS checked, count(*) FILTER (WHERE broken) AS broken, (array_agg(what) FILTER (WHERE broken))[1:5] AS examples,
       (array_agg(about) FILTER (WHERE broken))[1] AS about
FROM found
