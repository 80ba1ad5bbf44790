-- What driving a dead letter again came to. Why it was refused at first stays as it is. It is locked.
-- $1 id, $2 now, $3 whether it is resolved, $4 outcome, $5 reason and $6 detail where it was refused again, else null.
UPDATE dead_letters
SET redrives = redrives + 1, redriven_at = $2::timestamptz, resolved_at = CASE WHEN $3::boolean THEN $2::timestamptz END, outcome = $4,
    newest_reason = coalesce($5, newest_reason), newest_detail = coalesce($6, newest_detail)
WHERE dead_letter_id = $1
