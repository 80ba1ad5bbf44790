-- Orders with a message that waits to be sent since so long that it should say how things stand now: decided again.
-- What a sender has in hand may still arrive. One that is locked is found next time (SKIP LOCKED).
-- $1 timestamptz now, $2 timestamptz composed before, $3 integer at most.
WITH stale AS (
    SELECT orders.order_id
    FROM orders
    WHERE (orders.tell_at IS NULL OR orders.tell_at > $1::timestamptz)
        AND orders.order_id IN (
            SELECT deliveries.order_id
            FROM deliveries
            JOIN messages ON messages.message_id = deliveries.message_id
            WHERE deliveries.state = 'due'
                AND messages.composed_at < $2::timestamptz
                AND (deliveries.lease IS NULL OR deliveries.due_at <= $1::timestamptz)
        )
    ORDER BY orders.order_id COLLATE "C"
    LIMIT $3::integer
    FOR UPDATE OF orders SKIP LOCKED
)
UPDATE orders SET tell_at = $1::timestamptz FROM stale WHERE orders.order_id = stale.order_id
RETURNING orders.order_id
