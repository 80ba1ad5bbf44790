-- Of each order, the version of the last outcome that is published: the ones behind it wait in the outbox.
SELECT orders.order_id, coalesce(min(outbox.version) - 1, orders.outcome_version) AS published
FROM orders
LEFT JOIN outbox ON outbox.order_id = orders.order_id
WHERE orders.outcome_version > 0
GROUP BY orders.order_id
HAVING coalesce(min(outbox.version) - 1, orders.outcome_version) > 0
ORDER BY orders.order_id
