-- All that is held of some orders of a customer, one JSON object each, in order_id order (byte order).
-- $1 text customer id, $2 text: after this order id, $3 integer at most.
SELECT order_id, email, phone, jsonb_build_object(
    'order_id', order_id,
    'known_at', known_at,
    'placed_at', placed_at,
    'purged_at', purged_at,
    'email', email,
    'phone', phone,
    'name', name,
    'locale', locale,
    'timezone', timezone,
    'order_url', order_url,
    'delivery', delivery,
    'tell_at', tell_at,
    'dossier', dossier,
    'told', told,
    'messages', coalesce((
        SELECT jsonb_agg(jsonb_build_object(
            'message_id', messages.message_id,
            'position', messages.position,
            'kind', messages.kind,
            'content', messages.content,
            'about', messages.about,
            'occurred_at', messages.occurred_at,
            'composed_at', messages.composed_at,
            'deliveries', coalesce((
                SELECT jsonb_agg(jsonb_build_object(
                    'delivery_id', deliveries.delivery_id,
                    'channel', deliveries.channel,
                    'state', deliveries.state,
                    'reason', deliveries.reason,
                    'due_at', deliveries.due_at,
                    'recorded_at', deliveries.recorded_at,
                    'settled_at', deliveries.settled_at,
                    'attempts', coalesce((
                        SELECT jsonb_agg(jsonb_build_object(
                            'attempt', attempts.attempt,
                            'at', attempts.at,
                            'outcome', attempts.outcome,
                            'reason', attempts.reason
                        ) ORDER BY attempts.attempt)
                        FROM attempts
                        WHERE attempts.delivery_id = deliveries.delivery_id
                    ), '[]')
                ) ORDER BY deliveries.channel)
                FROM deliveries
                WHERE deliveries.message_id = messages.message_id
            ), '[]')
        ) ORDER BY messages.position)
        FROM messages
        WHERE messages.order_id = orders.order_id
    ), '[]'),
    'interventions', coalesce((
        SELECT jsonb_agg(jsonb_build_object(
            'at', interventions.at,
            'by', interventions.by,
            'what', interventions.what,
            'delivery_id', interventions.delivery_id,
            'message_id', interventions.message_id,
            'note', interventions.note
        ) ORDER BY interventions.intervention_id)
        FROM interventions
        WHERE interventions.order_id = orders.order_id
    ), '[]'),
    'updates', coalesce((
        SELECT jsonb_agg(jsonb_build_object(
            'event_id', updates.event_id,
            'line_no', updates.line_no,
            'kind', updates.kind,
            'caused_by', updates.caused_by,
            'occurred_at', updates.occurred_at,
            'recorded_at', updates.recorded_at,
            'event', updates.event,
            'state', updates.state,
            'reason', updates.reason,
            'decided_at', updates.decided_at,
            'message_id', updates.message_id
        ) ORDER BY updates.ordinal)
        FROM updates
        WHERE updates.order_id = orders.order_id
    ), '[]')
) AS held
FROM orders
WHERE customer_id = $1::text AND order_id COLLATE "C" > $2::text
ORDER BY order_id COLLATE "C"
LIMIT $3::integer
