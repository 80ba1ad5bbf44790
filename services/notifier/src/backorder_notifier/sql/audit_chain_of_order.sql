-- What is known of an order: its newest events, and what became of them. $1 text order id, $2 integer how many at most.
SELECT
    updates.event_id, updates.topic, updates.event ->> 'type' AS type, (updates.event ->> 'version')::bigint AS version,
    updates.line_no, updates.kind, updates.caused_by, updates.recorded_at, updates.state, updates.reason,
    messages.position, messages.kind AS message_kind,
    ARRAY(
        SELECT format('%s %s after %s tries%s', deliveries.channel, deliveries.state, deliveries.attempts, ' (' || deliveries.reason || ')')
        FROM deliveries
        WHERE deliveries.message_id = updates.message_id
        ORDER BY deliveries.channel
    ) AS deliveries
FROM updates
LEFT JOIN messages ON messages.message_id = updates.message_id
WHERE updates.order_id = $1::text
ORDER BY updates.ordinal DESC
LIMIT $2::integer
