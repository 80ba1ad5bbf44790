-- What is told is told by a message that was accepted, is to be sent, or came to an end of its own: none hangs on one that
-- was withdrawn for a newer one. What a sender had in hand when its customer was forgotten, or unsubscribed, stays told.
SELECT
    count(*)::integer AS checked,
    (count(*) FILTER (WHERE is_broken))::integer AS broken,
    (array_agg(format('%s of order %s: message %s was withdrawn', event_id, order_id, message_id))
        FILTER (WHERE is_broken))[:5] AS examples,
    (array_agg(order_id) FILTER (WHERE is_broken))[1] AS order_id
FROM (
    SELECT
        updates.event_id, updates.order_id, updates.message_id,
        NOT EXISTS (
            SELECT
            FROM deliveries
            WHERE deliveries.message_id = updates.message_id
                AND (deliveries.state <> 'superseded' OR deliveries.reason IN ('forgotten', 'optional_kinds_off'))
        ) AS is_broken
    FROM updates
    WHERE updates.state = 'told' AND updates.message_id IS NOT NULL
) AS compared
