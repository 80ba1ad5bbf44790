-- It will not be tried again. Only by the sender that has the lease: another may be succeeding just now.
-- The order is locked by next_outcome_version.
-- $1 uuid delivery id, $2 uuid lease, $3 text reason, $4 timestamptz now.
UPDATE deliveries
SET state = 'failed', reason = $3::text, settled_at = $4::timestamptz, lease = NULL
WHERE delivery_id = $1::uuid AND lease = $2::uuid AND state = 'due'
RETURNING attempts
