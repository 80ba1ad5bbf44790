-- The first lines ahead of each line of an order that waits, the next to be served first. $1 order id, $2 how many of each.
SELECT l.line_no AS behind, a.order_id, a.line_no, a.quantity_waiting, a.ranked_at
FROM lines l
CROSS JOIN LATERAL (
    SELECT order_id, line_no, quantity_waiting, ranked_at FROM lines
    WHERE pool_id = l.pool_id AND quantity_waiting > 0
      AND (ranked_at, order_id, line_no) < (l.ranked_at, l.order_id, l.line_no)
    ORDER BY ranked_at, order_id, line_no
    LIMIT $2
) a
WHERE l.order_id = $1 AND l.quantity_waiting > 0
ORDER BY l.line_no, a.ranked_at, a.order_id, a.line_no
