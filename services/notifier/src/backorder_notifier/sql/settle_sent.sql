-- The provider took it. Whoever has the lease now: a mail that was accepted is sent. No row: settled already.
-- The order is locked by next_outcome_version.
-- $1 uuid delivery id, $2 timestamptz now.
UPDATE deliveries
SET state = 'sent', reason = NULL, settled_at = $2::timestamptz, lease = NULL
WHERE delivery_id = $1::uuid AND state = 'due'
RETURNING attempts
