-- One try and what became of it. What the sender itself saw replaces what others made of its silence.
-- $1 uuid delivery id, $2 integer attempt, $3 timestamptz when, $4 text outcome, $5 text reason or null.
INSERT INTO attempts (delivery_id, attempt, at, outcome, reason)
VALUES ($1::uuid, $2::integer, $3::timestamptz, $4::text, $5::text)
ON CONFLICT (delivery_id, attempt) DO UPDATE
SET at = excluded.at, outcome = excluded.outcome, reason = excluded.reason
