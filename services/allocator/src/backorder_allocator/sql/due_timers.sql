-- Timers that are due, in the order of their times. No locks: whoever fires one takes it first. $1 now, $2 how many at most,
-- $3 to $6 the last one seen: time, kind, subject, supply id.
SELECT due_at, kind, subject, supply_id
FROM timers
WHERE due_at <= $1 AND (due_at, kind, subject, supply_id) > ($3::timestamptz, $4::text, $5::text, $6::text)
ORDER BY due_at, kind, subject, supply_id
LIMIT $2
