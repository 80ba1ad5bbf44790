-- Who waits in pools whose promises are planned, in rank order, with what promises start from.
SELECT l.pool_id, p.sku, p.location, p.on_hand - p.allocated - p.safety_stock AS start, l.order_id, l.line_no, l.quantity_waiting,
       l.promised_at, l.lead_at
FROM lines l JOIN pools p USING (pool_id)
WHERE l.quantity_waiting > 0 AND p.stale_since IS NULL
ORDER BY l.pool_id, l.ranked_at, l.order_id, l.line_no
