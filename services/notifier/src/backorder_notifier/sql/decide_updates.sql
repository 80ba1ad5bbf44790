-- What was decided about events, and why. One given back that is not to be told yet is pending again.
-- $1 timestamptz now; one array a column: $2 event_id, $3 state, $4 reason, $5 message_id.
UPDATE updates
SET state = batch.state,
    reason = batch.reason,
    message_id = batch.message_id,
    decided_at = CASE WHEN batch.state = 'pending' THEN NULL ELSE $1::timestamptz END
FROM unnest($2::text[], $3::text[], $4::text[], $5::uuid[]) AS batch (event_id, state, reason, message_id)
WHERE updates.event_id = batch.event_id
