-- What driving a dead letter again came to. Why it was refused at first stays as it is. Locked by lock_dead_letter.
-- $1 bigint dead letter id, $2 timestamptz now, $3 boolean whether it was used, $4 text outcome, $5 text reason and
-- $6 text detail where it was refused again, else null.
UPDATE dead_letters
SET redrives = redrives + 1,
    tried_at = $2::timestamptz,
    redriven_at = CASE WHEN $3::boolean THEN $2::timestamptz END,
    outcome = $4::text,
    newest_reason = coalesce($5::text, newest_reason),
    newest_detail = coalesce($6::text, newest_detail)
WHERE dead_letter_id = $1::bigint
