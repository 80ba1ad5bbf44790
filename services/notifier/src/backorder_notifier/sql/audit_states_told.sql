-- What happened to the lines of orders, in the order of applying, and what their messages said, in their order: a portion
-- of orders that have messages, by order_id. In what was told, the dates are as they were published.
-- $1 text order id after which to go on, $2 integer orders at most.
WITH portion AS (
    SELECT DISTINCT order_id FROM messages WHERE order_id > $1::text ORDER BY order_id LIMIT $2::integer
)
SELECT
    portion.order_id,
    (
        SELECT coalesce(jsonb_agg(
            jsonb_build_object(
                'event_id', updates.event_id, 'line_no', updates.line_no, 'type', updates.event ->> 'type',
                'quantity', (updates.event ->> 'quantity')::bigint,
                'waiting', (updates.event ->> 'quantity_waiting')::bigint,
                'promised_at', updates.event ->> 'promised_at', 'version', (updates.event ->> 'version')::bigint
            ) ORDER BY updates.ordinal
        ), '[]')
        FROM updates
        WHERE updates.order_id = portion.order_id AND updates.topic IN ('backorders', 'allocations', 'fulfilment')
    )::text AS events,
    (
        SELECT jsonb_agg(
            jsonb_build_object('position', messages.position, 'told', messages.told, 'about', messages.about)
            ORDER BY messages.position
        )
        FROM messages
        WHERE messages.order_id = portion.order_id
    )::text AS messages
FROM portion
ORDER BY portion.order_id
