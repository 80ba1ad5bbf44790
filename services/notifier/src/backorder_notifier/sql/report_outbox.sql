-- Messages over their channels, newest first. No contact data.
-- $1 text[] states or null for all, $2 text order id or null for all, $3 text[] channels or null for all,
-- $4 text[] kinds or null for all, $5 boolean only what did not reach its customer, though it should have,
-- $6 integer at most.
SELECT
    deliveries.delivery_id, deliveries.message_id, deliveries.order_id, messages.position, messages.kind,
    deliveries.channel, deliveries.state, deliveries.reason, deliveries.attempts, deliveries.in_doubt, deliveries.due_at,
    messages.composed_at, deliveries.first_attempt_at, deliveries.settled_at, messages.about
FROM deliveries
JOIN messages ON messages.message_id = deliveries.message_id
WHERE ($1::text[] IS NULL OR deliveries.state = ANY ($1::text[]))
    AND ($2::text IS NULL OR messages.order_id = $2::text)
    AND ($3::text[] IS NULL OR deliveries.channel = ANY ($3::text[]))
    AND ($4::text[] IS NULL OR messages.kind = ANY ($4::text[]))
    AND (
        NOT $5::boolean
        OR deliveries.state = 'failed'
        OR (deliveries.state = 'withheld' AND deliveries.reason <> 'channel_not_chosen')
    )
ORDER BY deliveries.recorded_at DESC, deliveries.order_id, messages.position DESC, deliveries.channel
LIMIT $6::integer
