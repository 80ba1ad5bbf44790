-- Orders that are over for so long that nobody needs their messages: nothing waits, nothing is to be told or decided or
-- sent, and the last that happened is older than that. Locked; one that another has is found next time (SKIP LOCKED).
-- $1 timestamptz: before, $2 integer at most.
SELECT order_id
FROM orders
WHERE purged_at IS NULL
    AND tell_at IS NULL
    AND known_at < $1::timestamptz
    AND NOT EXISTS (
        SELECT FROM jsonb_each(dossier -> 'lines') AS lines (line_no, line) WHERE (line ->> 'waiting')::bigint > 0
    )
    AND NOT EXISTS (
        SELECT FROM updates
        WHERE updates.order_id = orders.order_id
            AND (updates.state = 'pending' OR updates.recorded_at >= $1::timestamptz OR updates.decided_at >= $1::timestamptz)
    )
    AND NOT EXISTS (
        SELECT FROM messages
        JOIN deliveries ON deliveries.message_id = messages.message_id
        WHERE messages.order_id = orders.order_id
            AND (deliveries.state = 'due' OR deliveries.recorded_at >= $1::timestamptz OR deliveries.settled_at >= $1::timestamptz)
    )
ORDER BY known_at
LIMIT $2::integer
FOR UPDATE OF orders SKIP LOCKED
