-- Deliveries of orders whose contact came just now, in the order of telling, with the events they tell.
-- Their orders are locked, and no sender takes them in this state.
-- $1 text[] order ids.
SELECT
    deliveries.delivery_id, deliveries.order_id, deliveries.kind, deliveries.channel, deliveries.attempts,
    deliveries.traceparent,
    ARRAY(
        SELECT updates.event_id
        FROM updates
        WHERE updates.delivery_id = deliveries.delivery_id
        ORDER BY updates.ordinal
    ) AS about
FROM deliveries
WHERE deliveries.order_id = ANY ($1::text[]) AND deliveries.state = 'waiting_for_contact'
ORDER BY deliveries.order_id COLLATE "C", deliveries.position
