-- Orders with a message that waits to be sent since so long that it should say how things stand now: decided again.
-- What a sender has in hand may still arrive. One that is locked is found next time (SKIP LOCKED). The oldest first, by
-- the index deliveries_oldest: however many messages were sent before, and however many wait, little is read. A message
-- is composed when its deliveries are recorded, or again later.
-- $1 timestamptz now, $2 timestamptz composed before, $3 integer at most.
WITH stale AS (
    SELECT orders.order_id
    FROM deliveries
    JOIN messages ON messages.message_id = deliveries.message_id
    JOIN orders ON orders.order_id = deliveries.order_id
    WHERE deliveries.state = 'due'
        AND deliveries.recorded_at < $2::timestamptz
        AND messages.composed_at < $2::timestamptz
        AND (deliveries.lease IS NULL OR deliveries.due_at <= $1::timestamptz)
        AND (orders.tell_at IS NULL OR orders.tell_at > $1::timestamptz)
    ORDER BY deliveries.recorded_at
    LIMIT $3::integer
    FOR UPDATE OF orders SKIP LOCKED
)
UPDATE orders SET tell_at = $1::timestamptz FROM stale WHERE orders.order_id = stale.order_id
RETURNING orders.order_id
