-- What was accepted has a try that was, and no delivery has more tries than were counted.
SELECT
    count(*)::integer AS checked,
    (count(*) FILTER (WHERE is_broken))::integer AS broken,
    (array_agg(format('delivery %s of order %s: %s, %s tries counted', delivery_id, order_id, state, attempts))
        FILTER (WHERE is_broken))[:5] AS examples,
    (array_agg(order_id) FILTER (WHERE is_broken))[1] AS order_id
FROM (
    SELECT
        deliveries.delivery_id, deliveries.order_id, deliveries.state, deliveries.attempts,
        (
            deliveries.state = 'sent'
            AND NOT EXISTS (
                SELECT FROM attempts WHERE attempts.delivery_id = deliveries.delivery_id AND attempts.outcome = 'sent'
            )
        )
        OR deliveries.attempts < (SELECT count(*) FROM attempts WHERE attempts.delivery_id = deliveries.delivery_id)
        AS is_broken
    FROM deliveries
) AS compared
