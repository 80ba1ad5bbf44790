-- The messages of an order are numbered in the order in which they were made, and the order knows the last number.
SELECT
    count(*)::integer AS checked,
    (count(*) FILTER (WHERE is_broken))::integer AS broken,
    (array_agg(format('order %s: message %s made at %s, the one before at %s, last %s', order_id, position, composed_at,
        before, last)) FILTER (WHERE is_broken))[:5] AS examples,
    (array_agg(order_id) FILTER (WHERE is_broken))[1] AS order_id
FROM (
    SELECT
        messages.order_id, messages.position, messages.composed_at, orders.messages AS last,
        lag(messages.composed_at) OVER of_order AS before,
        messages.position > orders.messages
        OR messages.composed_at < coalesce(lag(messages.composed_at) OVER of_order, messages.composed_at) AS is_broken
    FROM messages
    JOIN orders ON orders.order_id = messages.order_id
    WINDOW of_order AS (PARTITION BY messages.order_id ORDER BY messages.position)
) AS compared
