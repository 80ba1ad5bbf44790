-- All lines of orders, which are locked or in the same snapshot. $1 order ids.
SELECT l.order_id, l.line_no, l.pool_id, p.sku, p.location, l.ranked_at, l.quantity_ordered, l.quantity_allocated,
       l.quantity_waiting, l.quantity_cancelled, l.quantity_rejected, l.quantity_shipped, l.releases, l.promised_at,
       l.first_promised_at, l.lead_at, l.lead_days
FROM lines l JOIN pools p USING (pool_id)
WHERE l.order_id = ANY ($1::text[])
ORDER BY l.order_id, l.line_no
