-- The first lines of queues: as many as there may be units to give. $1 pool ids, $2 units. Under the pools' locks.
-- Every line waits for at least one unit, so `units` lines always suffice.
WITH wanted AS (SELECT * FROM unnest($1::bigint[], $2::bigint[]) AS w (pool_id, units))
SELECT w.pool_id, head.order_id, head.line_no, head.ranked_at
FROM wanted w
CROSS JOIN LATERAL (
    SELECT first.*, sum(first.quantity_waiting) OVER (ORDER BY ranked_at, order_id, line_no) - first.quantity_waiting AS ahead
    FROM (
        SELECT l.order_id, l.line_no, l.ranked_at, l.quantity_waiting
        FROM lines l WHERE l.pool_id = w.pool_id AND l.quantity_waiting > 0
        ORDER BY l.ranked_at, l.order_id, l.line_no
        LIMIT w.units
    ) first
) head
WHERE head.ahead < w.units
