-- Removes what was told about locked orders. The order's row stays with its dossier and what the customer was last told:
-- with it, and the rows in `versions`, an event that is read again is known and told nobody. The outbox is untouched.
-- $1 text[] order ids, $2 timestamptz now.
WITH of_attempts AS (
    DELETE FROM attempts
    USING deliveries, messages
    WHERE attempts.delivery_id = deliveries.delivery_id
        AND deliveries.message_id = messages.message_id
        AND messages.order_id = ANY ($1::text[])
    RETURNING attempts.delivery_id
),
of_deliveries AS (
    DELETE FROM deliveries
    USING messages
    WHERE deliveries.message_id = messages.message_id AND messages.order_id = ANY ($1::text[])
    RETURNING deliveries.delivery_id
),
of_updates AS (
    DELETE FROM updates WHERE order_id = ANY ($1::text[]) RETURNING event_id
),
of_interventions AS (
    DELETE FROM interventions WHERE order_id = ANY ($1::text[])
),
of_messages AS (
    DELETE FROM messages WHERE order_id = ANY ($1::text[]) RETURNING message_id
),
marked AS (
    UPDATE orders SET purged_at = $2::timestamptz WHERE order_id = ANY ($1::text[])
)
SELECT
    (SELECT count(*) FROM of_messages)::integer AS messages,
    (SELECT count(*) FROM of_deliveries)::integer AS deliveries,
    (SELECT count(*) FROM of_attempts)::integer AS attempts,
    (SELECT count(*) FROM of_updates)::integer AS updates
