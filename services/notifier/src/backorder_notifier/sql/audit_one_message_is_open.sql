-- An order has at most one message that is still to be sent to its customer, and it is its last. A webhook goes on being
-- tried where the customer has read the message already.
SELECT
    count(*)::integer AS checked,
    (count(*) FILTER (WHERE open > 1 OR first_open < last_position))::integer AS broken,
    (array_agg(format('order %s: %s open, the first is message %s of %s', order_id, open, first_open, last_position))
        FILTER (WHERE open > 1 OR first_open < last_position))[:5] AS examples,
    (array_agg(order_id) FILTER (WHERE open > 1 OR first_open < last_position))[1] AS order_id
FROM (
    SELECT
        deliveries.order_id, count(DISTINCT deliveries.message_id) AS open, min(messages.position) AS first_open,
        (SELECT max(last.position) FROM messages AS last WHERE last.order_id = deliveries.order_id) AS last_position
    FROM deliveries
    JOIN messages ON messages.message_id = deliveries.message_id
    WHERE deliveries.state = 'due'
        AND NOT (
            deliveries.channel = 'webhook'
            AND EXISTS (
                SELECT
                FROM deliveries AS other
                WHERE other.message_id = deliveries.message_id AND other.state = 'sent' AND other.channel <> 'webhook'
            )
        )
    GROUP BY deliveries.order_id
) AS compared
