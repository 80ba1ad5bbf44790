-- Last lock of a transaction: takes the head of the log, and gives it its number and the seqs of its events.
-- The head is held for this statement and the COMMIT only. $1 batch id, $2 kind, $3 what, $4 at, $5 events, $6 applied,
-- $7 duplicates, $8 ignored, $9 dead letters, $10 number of the rules in force, $11 epoch. No row: the epoch is another.
WITH head AS (
    UPDATE log_head SET seq = seq + $5::integer, journal = journal + 1
    WHERE epoch = $11
    RETURNING journal AS number, seq - $5::integer + 1 AS first_seq
)
INSERT INTO journal (number, batch_id, kind, what, at, first_seq, event_count, applied, duplicates, ignored, dead_letters,
                     rules_id)
SELECT number, $1, $2, $3::text::jsonb, $4, first_seq, $5, $6, $7, $8, $9, $10 FROM head
RETURNING number, first_seq
