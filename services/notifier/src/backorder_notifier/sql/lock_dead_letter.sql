-- A dead letter that is driven again: of two operators at once the second finds it used. No row: it is gone.
-- $1 bigint dead letter id.
SELECT redriven_at FROM dead_letters WHERE dead_letter_id = $1::bigint FOR UPDATE
