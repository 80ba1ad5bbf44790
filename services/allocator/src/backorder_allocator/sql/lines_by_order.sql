-- The lines of one order, and who is ahead of those that wait. Held units are held for a pre-order while that is not over.
-- Lines ahead are counted in the index, without their rows; units ahead are the sums of the days before (UTC) and the lines of
-- the own day. With rows for both, PostgreSQL would rather read the whole table, also for the first in line. $1 order id.
SELECT l.line_no, p.sku, p.location, l.quantity_ordered, l.quantity_allocated, l.quantity_waiting, l.quantity_cancelled,
       l.quantity_rejected, l.quantity_shipped, l.quantity_released,
       l.quantity_allocated - l.quantity_shipped - l.quantity_released AS quantity_held, l.releases,
       l.promised_at, l.first_promised_at,
       CASE WHEN y.backorders = 'preorder' AND NOT p.preorder_over THEN y.release_at END AS held_until,
       ahead.lines_ahead, ahead.units_ahead
FROM lines l JOIN pools p USING (pool_id)
LEFT JOIN policies y ON y.sku = p.sku
LEFT JOIN LATERAL (
    SELECT (SELECT count(*) FROM lines a
            WHERE a.pool_id = l.pool_id AND a.quantity_waiting > 0
              AND (a.ranked_at, a.order_id, a.line_no) < (l.ranked_at, l.order_id, l.line_no)) AS lines_ahead,
           (SELECT coalesce(sum(q.waiting), 0) FROM queue_days q WHERE q.pool_id = l.pool_id AND q.day < d.day)::bigint
           + (SELECT coalesce(sum(a.quantity_waiting), 0) FROM lines a
              WHERE a.pool_id = l.pool_id AND a.quantity_waiting > 0 AND a.ranked_at >= d.day::timestamp AT TIME ZONE 'UTC'
                AND (a.ranked_at, a.order_id, a.line_no) < (l.ranked_at, l.order_id, l.line_no)) AS units_ahead
    FROM (SELECT (l.ranked_at AT TIME ZONE 'UTC')::date AS day) d
    WHERE l.quantity_waiting > 0
) ahead ON true
WHERE l.order_id = $1
ORDER BY l.line_no
