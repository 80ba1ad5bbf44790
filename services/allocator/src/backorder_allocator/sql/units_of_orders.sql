-- Which pools the lines of orders belong to, and with how many units ordered. $1 order ids.
-- No locks needed: neither ever changes once the order is placed.
SELECT order_id, pool_id, sum(quantity_ordered)::bigint AS units
FROM lines WHERE order_id = ANY ($1::text[])
GROUP BY order_id, pool_id
