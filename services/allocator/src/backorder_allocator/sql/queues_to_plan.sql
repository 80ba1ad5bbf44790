-- The queues of pools in rank order, and what is held in them until a pre-order's release (0 units wait). In one snapshot
-- with the pools, or under their locks. $1 pool ids, $2 ids of those in pre-order.
WITH lines_to_plan AS (
    SELECT pool_id, ranked_at, order_id, line_no, quantity_waiting, promised_at, first_promised_at, lead_at, lead_days
    FROM lines WHERE pool_id = ANY ($1::bigint[]) AND quantity_waiting > 0
    UNION ALL
    SELECT pool_id, ranked_at, order_id, line_no, 0, promised_at, first_promised_at, lead_at, lead_days
    FROM lines
    WHERE pool_id = ANY ($2::bigint[]) AND quantity_allocated > quantity_shipped + quantity_released AND quantity_waiting = 0
)
SELECT l.pool_id, l.order_id, l.line_no, l.quantity_waiting, o.placed_at, l.promised_at, l.first_promised_at, l.lead_at, l.lead_days
FROM lines_to_plan l JOIN orders o USING (order_id)
ORDER BY l.pool_id, l.ranked_at, l.order_id, l.line_no
