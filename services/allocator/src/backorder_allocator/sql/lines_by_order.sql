-- The lines of one order, and who is ahead of those that wait. Held units are held for a pre-order while that is not over.
-- $1 order id.
SELECT l.line_no, p.sku, p.location, l.quantity_ordered, l.quantity_allocated, l.quantity_waiting, l.quantity_cancelled,
       l.quantity_rejected, l.quantity_shipped, l.quantity_released,
       l.quantity_allocated - l.quantity_shipped - l.quantity_released AS quantity_held, l.releases,
       l.promised_at, l.first_promised_at,
       CASE WHEN y.backorders = 'preorder' AND NOT p.preorder_over THEN y.release_at END AS held_until,
       ahead.lines_ahead, ahead.units_ahead
FROM lines l JOIN pools p USING (pool_id)
LEFT JOIN policies y ON y.sku = p.sku
LEFT JOIN LATERAL (
    SELECT count(*) AS lines_ahead, coalesce(sum(a.quantity_waiting), 0)::bigint AS units_ahead
    FROM lines a
    WHERE l.quantity_waiting > 0 AND a.pool_id = l.pool_id AND a.quantity_waiting > 0
      AND (a.ranked_at, a.order_id, a.line_no) < (l.ranked_at, l.order_id, l.line_no)
) ahead ON l.quantity_waiting > 0
WHERE l.order_id = $1
ORDER BY l.line_no
