-- What is to be decided of locked orders: pending updates, and those that messages about to be withdrawn give back, in
-- the order in which they were applied. Timers of such messages are among them, so that it is known what was not said.
-- $1 text[] order ids, $2 uuid[] messages that would be withdrawn.
SELECT
    event_id, order_id, ordinal, line_no, kind, caused_by, occurred_at, recorded_at, event, traceparent, message_id
FROM updates
WHERE (order_id = ANY ($1::text[]) AND state = 'pending')
    OR (message_id = ANY ($2::uuid[]) AND state IN ('told', 'superseded'))
ORDER BY order_id, ordinal
