-- Every event and due date of an order, in the order of applying, and what was decided about it.
-- $1 text order id.
SELECT
    updates.event_id, updates.ordinal, updates.line_no, updates.kind, updates.caused_by, updates.occurred_at,
    updates.recorded_at, updates.event::text AS event, updates.state, updates.reason, updates.decided_at,
    updates.message_id, messages.position
FROM updates
LEFT JOIN messages ON messages.message_id = updates.message_id
WHERE updates.order_id = $1::text
ORDER BY updates.ordinal
