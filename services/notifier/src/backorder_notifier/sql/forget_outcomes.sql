-- Kafka has them. Refused (no rows go) when the relay's lease has changed hands.
-- $1 bigint[] positions, $2 uuid holder, $3 bigint epoch of the lease.
DELETE FROM outbox
WHERE position = ANY ($1::bigint[])
    AND EXISTS (SELECT FROM leases WHERE name = 'relay' AND holder = $2::uuid AND epoch = $3::bigint)
RETURNING position
