-- One order. $1 order id.
SELECT order_id, placed_at, ranked_at, head_start, head_start_reason, delivery, escalates_at, escalated, customer_id, release_no
FROM orders WHERE order_id = $1
