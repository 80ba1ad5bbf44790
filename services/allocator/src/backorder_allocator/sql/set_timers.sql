-- Sets what happens by itself. Whoever sets a timer holds the lock of what it is about: the order, the SKU or the supply.
-- $1 kinds, $2 subjects, $3 supply ids, $4 due at.
INSERT INTO timers (kind, subject, supply_id, due_at)
SELECT kind, subject, supply_id, due_at
FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[]) AS t (kind, subject, supply_id, due_at)
ORDER BY kind, subject, supply_id
ON CONFLICT (kind, subject, supply_id) DO UPDATE SET due_at = excluded.due_at
