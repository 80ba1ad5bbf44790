-- The same message once more, as a new one: with the Message-ID of the first, mail programs would hide it. The order is
-- locked.
-- $1 uuid message id, $2 uuid of the copy, $3 timestamptz now.
WITH counted AS (
    UPDATE orders
    SET messages = orders.messages + 1
    FROM messages
    WHERE messages.message_id = $1::uuid AND orders.order_id = messages.order_id
    RETURNING orders.order_id, orders.messages
)
INSERT INTO messages (
    message_id, order_id, customer_id, position, kind, content, told, about, occurred_at, composed_at, traceparent
)
SELECT
    $2::uuid, messages.order_id, messages.customer_id, counted.messages, messages.kind, messages.content, messages.told,
    messages.about, messages.occurred_at, $3::timestamptz, messages.traceparent
FROM messages
JOIN counted ON counted.order_id = messages.order_id
WHERE messages.message_id = $1::uuid
RETURNING position
