-- What driving a dead letter again came to. $1 id, $2 now if it is resolved, $3 outcome, $4 reason, $5 detail.
UPDATE dead_letters
SET redrives = redrives + 1, resolved_at = $2, outcome = $3, reason = coalesce($4, reason), detail = coalesce($5, detail)
WHERE dead_letter_id = $1
