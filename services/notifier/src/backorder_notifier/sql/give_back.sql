-- Messages that nobody got are taken back: their news is to be decided anew, at once. Due dates are made anew where they
-- still hold. The order and its deliveries are locked, and no sender has one of these.
-- $1 text order id, $2 uuid[] message ids, $3 jsonb dossier as it was before those due dates,
-- $4 timestamptz now.
WITH withdrawn AS (
    UPDATE deliveries
    SET state = 'superseded', reason = 'resent', settled_at = $4::timestamptz, lease = NULL
    WHERE message_id = ANY ($2::uuid[]) AND state IN ('failed', 'withheld', 'due')
),
theirs AS (
    SELECT updates.event_id, updates.event_id LIKE 'timer:%' AS is_timer
    FROM messages
    JOIN updates
        ON updates.order_id = messages.order_id
        AND (
            updates.message_id = messages.message_id
            OR (updates.event_id = ANY (messages.about) AND updates.state = 'not_told')
        )
    WHERE messages.message_id = ANY ($2::uuid[])
),
given_back AS (
    UPDATE updates
    SET state = CASE WHEN theirs.is_timer THEN 'superseded' ELSE 'pending' END,
        reason = CASE WHEN theirs.is_timer THEN 'withdrawn' END,
        decided_at = CASE WHEN theirs.is_timer THEN $4::timestamptz END,
        message_id = NULL
    FROM theirs
    WHERE updates.event_id = theirs.event_id
    RETURNING theirs.is_timer
),
woken AS (
    UPDATE orders SET tell_at = $4::timestamptz, dossier = $3::jsonb WHERE order_id = $1::text
)
SELECT count(*)::integer AS updates FROM given_back WHERE NOT is_timer
