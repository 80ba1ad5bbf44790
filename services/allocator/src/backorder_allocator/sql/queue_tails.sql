-- The orders whose lines may lose stock: last in rank first, as many of the held and of the released as units may be lost,
-- beside the lines of orders that are read anyway. $1 pool ids, $2 units, $3 ids of those orders. Under the pools' locks.
-- A line can have both kinds, so each kind is read on its own. Fewer rows of a kind than at_most: there are no more.
WITH read_anyway AS (
    SELECT pool_id, count(*) AS lines FROM lines
    WHERE order_id = ANY ($3::text[]) AND quantity_allocated > quantity_shipped GROUP BY pool_id
), wanted AS (
    SELECT pool_id, w.units + coalesce(r.lines, 0) AS lines
    FROM unnest($1::bigint[], $2::bigint[]) AS w (pool_id, units) LEFT JOIN read_anyway r USING (pool_id)
)
SELECT w.pool_id, losing.order_id, losing.held, w.lines AS at_most
FROM wanted w
CROSS JOIN LATERAL (
    (SELECT l.order_id, true AS held FROM lines l
     WHERE l.pool_id = w.pool_id AND l.quantity_allocated > l.quantity_shipped + l.quantity_released
     ORDER BY l.ranked_at DESC, l.order_id DESC, l.line_no DESC
     LIMIT w.lines)
    UNION ALL
    (SELECT l.order_id, false FROM lines l
     WHERE l.pool_id = w.pool_id AND l.quantity_released > 0
     ORDER BY l.ranked_at DESC, l.order_id DESC, l.line_no DESC
     LIMIT w.lines)
) losing
