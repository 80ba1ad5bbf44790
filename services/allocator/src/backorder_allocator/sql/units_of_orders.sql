-- Which pools the lines of orders belong to, with how many units ordered, and how many of them shipments name.
-- $1 order ids; $2 order ids, $3 line numbers, $4 units of shipments.
-- No locks needed: neither ever changes once the order is placed. What no shipment names counts as none: least() of null
-- and a number is that number.
WITH shipments AS (
    SELECT order_id, line_no, sum(units) AS units
    FROM unnest($2::text[], $3::integer[], $4::bigint[]) AS s (order_id, line_no, units) GROUP BY order_id, line_no
)
SELECT l.order_id, l.pool_id, sum(l.quantity_ordered)::bigint AS ordered,
       coalesce(sum(least(s.units, l.quantity_ordered)) FILTER (WHERE s.units > 0), 0)::bigint AS shipped
FROM lines l LEFT JOIN shipments s USING (order_id, line_no)
WHERE l.order_id = ANY ($1::text[])
GROUP BY l.order_id, l.pool_id
