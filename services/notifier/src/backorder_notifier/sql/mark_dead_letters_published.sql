-- Kafka has them. Refused (no rows change) when the relay's lease has changed hands.
-- $1 bigint[] dead letter ids, $2 timestamptz now, $3 uuid holder, $4 bigint epoch of the lease.
UPDATE dead_letters
SET published_at = $2::timestamptz
WHERE dead_letter_id = ANY ($1::bigint[])
    AND EXISTS (SELECT FROM leases WHERE name = 'relay' AND holder = $3::uuid AND epoch = $4::bigint)
RETURNING dead_letter_id
