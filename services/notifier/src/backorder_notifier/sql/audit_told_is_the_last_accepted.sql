-- What an order says that its customer was told last is what its last accepted message said. Orders with events from
-- before NOTIFIER_START_AT count these as told, too, and are left out.
SELECT
    count(*)::integer AS checked,
    (count(*) FILTER (WHERE is_broken))::integer AS broken,
    (array_agg(format('order %s: what was told last is not what message %s said', order_id, position))
        FILTER (WHERE is_broken))[:5] AS examples
FROM (
    SELECT DISTINCT ON (orders.order_id)
        orders.order_id, messages.position, orders.told <> messages.told AS is_broken
    FROM orders
    JOIN messages ON messages.order_id = orders.order_id
    JOIN deliveries ON deliveries.message_id = messages.message_id AND deliveries.state = 'sent'
    WHERE NOT EXISTS (
        SELECT FROM updates WHERE updates.order_id = orders.order_id AND updates.reason = 'before_start_at'
    )
    ORDER BY orders.order_id, messages.position DESC
) AS compared
