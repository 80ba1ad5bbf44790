-- Rule 7: an order holds units only while it must be complete and a line of it waits.
WITH sums AS (
    SELECT order_id, sum(quantity_waiting) AS waiting, sum(quantity_allocated - quantity_shipped - quantity_released) AS held
    FROM lines GROUP BY order_id
), found AS (
    SELECT s.held > 0 AND (o.delivery <> 'complete' OR s.waiting = 0) AS broken,
           format('order %s (%s) holds %s units, %s wait', order_id, o.delivery, s.held, s.waiting) AS what
    FROM sums s JOIN orders o USING (order_id)
)
SELECT count(*) AS checked, count(*) FILTER (WHERE broken) AS broken, (array_agg(what) FILTER (WHERE broken))[1:5] AS examples FROM found
