-- News that was not told since no channel was open is told by its message after all.
-- $1 uuid[] message ids, $2 timestamptz now.
UPDATE updates
SET state = 'told', reason = NULL, message_id = messages.message_id, decided_at = $2::timestamptz
FROM messages
WHERE messages.message_id = ANY ($1::uuid[])
    AND updates.order_id = messages.order_id
    AND updates.event_id = ANY (messages.about)
    AND updates.state = 'not_told'
