-- $1 dead letter ids, $2 the relay's epoch: nothing is marked once the lease is lost.
UPDATE dead_letters SET published = true
WHERE dead_letter_id = ANY ($1::bigint[]) AND EXISTS (SELECT FROM relay WHERE epoch = $2)
RETURNING dead_letter_id
