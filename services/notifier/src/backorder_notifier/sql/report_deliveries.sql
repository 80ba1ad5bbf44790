-- Messages by channel, and what became of them.
SELECT messages.kind, deliveries.channel, deliveries.state, deliveries.reason, count(*)::integer AS deliveries
FROM deliveries
JOIN messages ON messages.message_id = deliveries.message_id
GROUP BY messages.kind, deliveries.channel, deliveries.state, deliveries.reason
ORDER BY messages.kind, deliveries.channel, deliveries.state, deliveries.reason NULLS FIRST
