-- Takes one timer, in the transaction of what it does. No row: another process took it, or it was moved or dropped.
-- After the locks of what it is about. $1 kind, $2 subject, $3 supply id, $4 due at.
DELETE FROM timers WHERE kind = $1 AND subject = $2 AND supply_id = $3 AND due_at = $4 RETURNING due_at
