-- Records about some orders that wait for an earlier version.
-- $1 text[] order ids.
SELECT topic, key, epoch, version, recorded_at, parked_at, record_value
FROM parked
WHERE key = ANY ($1::text[])
ORDER BY topic, key COLLATE "C", epoch, version
