-- A dead letter that is to be driven again, locked before anything else, so that two operators drive it once. $1 id.
SELECT resolved_at FROM dead_letters WHERE dead_letter_id = $1 FOR UPDATE
