-- Deliveries for people, newest first. No contact data.
-- $1 text[] states or null for all, $2 text order id or null for all, $3 integer at most.
SELECT
    deliveries.delivery_id, deliveries.order_id, deliveries.position, deliveries.kind, deliveries.channel,
    deliveries.state, deliveries.reason, deliveries.attempts, deliveries.due_at, deliveries.recorded_at,
    deliveries.settled_at,
    ARRAY(
        SELECT updates.event_id FROM updates WHERE updates.delivery_id = deliveries.delivery_id ORDER BY updates.ordinal
    ) AS about,
    ARRAY(
        SELECT updates.event FROM updates WHERE updates.delivery_id = deliveries.delivery_id ORDER BY updates.ordinal
    ) AS events
FROM deliveries
WHERE ($1::text[] IS NULL OR deliveries.state = ANY ($1::text[]))
    AND ($2::text IS NULL OR deliveries.order_id = $2::text)
ORDER BY deliveries.recorded_at DESC, deliveries.order_id, deliveries.position DESC
LIMIT $3::integer
