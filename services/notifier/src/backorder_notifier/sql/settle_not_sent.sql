-- It will not be tried again. Only by the sender that has the lease: another may be succeeding just now. The order is locked.
-- $1 uuid delivery id, $2 uuid lease, $3 text state (failed; withheld: nothing was handed over), $4 text reason,
-- $5 timestamptz now, $6 integer attempts.
UPDATE deliveries
SET state = $3::text, reason = $4::text, settled_at = $5::timestamptz, attempts = $6::integer, lease = NULL
WHERE delivery_id = $1::uuid AND lease = $2::uuid AND state = 'due'
RETURNING attempts
