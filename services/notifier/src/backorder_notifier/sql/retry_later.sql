-- Gives the lease back; it is due again after a backoff, and not before its domain may be asked again. Only by the sender
-- that has the lease.
-- $1 uuid delivery id, $2 uuid lease, $3 text reason, $4 timestamptz due again, $5 text domain or null,
-- $6 integer 1 if this try is in doubt, 0 if not.
UPDATE deliveries
SET reason = $3::text,
    due_at = greatest(
        $4::timestamptz, (SELECT domain_backoffs.until FROM domain_backoffs WHERE domain_backoffs.domain = $5::text)
    ),
    in_doubt = in_doubt + $6::integer,
    lease = NULL
WHERE delivery_id = $1::uuid AND lease = $2::uuid AND state = 'due'
RETURNING attempts
