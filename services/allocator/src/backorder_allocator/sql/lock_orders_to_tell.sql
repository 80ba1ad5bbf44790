-- Second lock of the planner: the orders whose lines move, sorted. Under the pools' locks. $1 order ids.
SELECT order_id, customer_id, backorders_version FROM orders WHERE order_id = ANY ($1::text[])
ORDER BY order_id
FOR UPDATE
