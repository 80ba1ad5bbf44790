-- What locked orders still had to tell is not told, and nothing more is to be decided.
-- $1 text[] order ids, $2 text reason, $3 timestamptz now.
WITH of_orders AS (
    UPDATE orders SET tell_at = NULL WHERE order_id = ANY ($1::text[]) AND tell_at IS NOT NULL
)
UPDATE updates
SET state = 'not_told', reason = $2::text, decided_at = $3::timestamptz
WHERE order_id = ANY ($1::text[]) AND state = 'pending'
RETURNING event_id
