-- Who waits in a pool, first in line first. $1 pool id, $2 how many at most.
SELECT row_number() OVER (ORDER BY l.ranked_at, l.order_id, l.line_no) AS place, l.order_id, l.line_no,
       l.quantity_waiting, l.quantity_ordered, o.placed_at, l.ranked_at, o.head_start, o.head_start_reason,
       l.promised_at, l.first_promised_at, l.lead_at, l.lead_days
FROM lines l JOIN orders o USING (order_id)
WHERE l.pool_id = $1 AND l.quantity_waiting > 0
ORDER BY l.ranked_at, l.order_id, l.line_no
LIMIT $2
