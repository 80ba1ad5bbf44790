-- Gives the lease back; it is due again after a backoff. Only by the sender that has the lease.
-- $1 uuid delivery id, $2 uuid lease, $3 text reason, $4 timestamptz due again.
UPDATE deliveries
SET reason = $3::text, due_at = $4::timestamptz, lease = NULL
WHERE delivery_id = $1::uuid AND lease = $2::uuid AND state = 'due'
RETURNING attempts
