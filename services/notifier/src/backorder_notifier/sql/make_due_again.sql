-- Deliveries are to be sent now, as if for the first time: the wait of an earlier try and the time after which it is given
-- up begin anew, the tries go on being counted. They are locked, and no sender has them.
-- $1 uuid[] delivery ids, $2 timestamptz now.
UPDATE deliveries
SET state = 'due', reason = NULL, due_at = $2::timestamptz, settled_at = NULL, first_attempt_at = NULL, lease = NULL
WHERE delivery_id = ANY ($1::uuid[]) AND state IN ('failed', 'withheld', 'due')
