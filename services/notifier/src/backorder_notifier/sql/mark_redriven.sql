-- They have been used after all. Locked by lock_dead_letters.
-- $1 bigint[] dead letter ids, $2 timestamptz now.
UPDATE dead_letters
SET redriven_at = $2::timestamptz
WHERE dead_letter_id = ANY ($1::bigint[])
