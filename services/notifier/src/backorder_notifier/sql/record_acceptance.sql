-- What an acceptance means for its order: the next version on notifications (with the epoch of this database), and what
-- the customer was last told is what the message said, unless one that came after it was accepted before (what was told
-- never goes back). The webhook is the shop's own system: it counts where the message goes nowhere else. What is to be
-- told next is looked at again, since reminders count from what was told. The order is locked, the delivery settled.
-- $1 text order id, $2 uuid message id, $3 text channel, $4 timestamptz now.
WITH reached AS (
    SELECT messages.told
    FROM messages
    WHERE messages.message_id = $2::uuid
        AND NOT EXISTS (
            SELECT
            FROM messages AS later
            JOIN deliveries ON deliveries.message_id = later.message_id AND deliveries.state = 'sent'
            WHERE later.order_id = messages.order_id AND later.position > messages.position
        )
        AND (
            $3::text <> 'webhook'
            OR NOT EXISTS (
                SELECT
                FROM deliveries AS other
                WHERE other.message_id = messages.message_id
                    AND other.channel <> 'webhook'
                    AND other.state <> 'withheld'
            )
        )
)
UPDATE orders
SET outcome_version = orders.outcome_version + 1,
    told = coalesce((SELECT reached.told FROM reached), orders.told),
    tell_at = CASE
        WHEN EXISTS (SELECT FROM reached) THEN least(orders.tell_at, $4::timestamptz)
        ELSE orders.tell_at
    END
WHERE orders.order_id = $1::text
RETURNING outcome_version, (SELECT epoch FROM identity) AS epoch
