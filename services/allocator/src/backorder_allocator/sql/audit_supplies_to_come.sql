-- Units to come for pools where somebody waits.
SELECT s.pool_id, s.supply_id, s.to_come, s.expected_at, s.overdue
FROM supplies s JOIN pools p USING (pool_id)
WHERE s.to_come > 0 AND p.waiting > 0 AND p.stale_since IS NULL
