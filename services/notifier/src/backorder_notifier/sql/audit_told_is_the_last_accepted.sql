-- What an order says that its customer was told last is what its last accepted message said. A webhook
-- counts where the message goes nowhere else. Orders with events from before NOTIFIER_START_AT, or an upgrade, count these
-- as told, too, and are left out.
SELECT
    count(*)::integer AS checked,
    (count(*) FILTER (WHERE is_broken))::integer AS broken,
    (array_agg(format('order %s: what was told last is not what message %s said', order_id, position))
        FILTER (WHERE is_broken))[:5] AS examples,
    (array_agg(order_id) FILTER (WHERE is_broken))[1] AS order_id
FROM (
    SELECT DISTINCT ON (orders.order_id)
        orders.order_id, messages.position, orders.told <> messages.told AS is_broken
    FROM orders
    JOIN messages ON messages.order_id = orders.order_id
    JOIN deliveries ON deliveries.message_id = messages.message_id AND deliveries.state = 'sent'
    WHERE (
            deliveries.channel <> 'webhook'
            OR NOT EXISTS (
                SELECT
                FROM deliveries AS other
                WHERE other.message_id = messages.message_id AND other.channel <> 'webhook' AND other.state <> 'withheld'
            )
        )
        AND NOT EXISTS (
            SELECT
            FROM updates
            WHERE updates.order_id = orders.order_id AND updates.reason IN ('before_start_at', 'before_upgrade')
        )
    ORDER BY orders.order_id, messages.position DESC
) AS compared
