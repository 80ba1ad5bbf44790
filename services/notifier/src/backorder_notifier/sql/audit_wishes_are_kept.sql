-- Since a customer unsubscribed, nothing that is optional was made and sent to them.
-- $1 text[] optional kinds.
SELECT
    count(*)::integer AS checked,
    (count(*) FILTER (WHERE is_broken))::integer AS broken,
    (array_agg(format('message %s of order %s (%s) was made after its customer unsubscribed', message_id, order_id, kind))
        FILTER (WHERE is_broken))[:5] AS examples,
    (array_agg(order_id) FILTER (WHERE is_broken))[1] AS order_id
FROM (
    SELECT
        messages.message_id, messages.order_id, messages.kind,
        coalesce(
            NOT customers.optional_kinds AND messages.composed_at > customers.unsubscribed_at, false
        ) AS is_broken
    FROM messages
    JOIN customers ON customers.customer_id = messages.customer_id
    JOIN deliveries
        ON deliveries.message_id = messages.message_id
        AND deliveries.state = 'sent'
        AND deliveries.channel <> 'webhook'
    WHERE messages.kind = ANY ($1::text[])
) AS compared
