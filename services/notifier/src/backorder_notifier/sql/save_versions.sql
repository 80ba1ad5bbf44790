-- Remembers what was applied. Their orders are locked.
-- $1 text topic, $2 text[] keys, $3 bigint[] epochs, $4 bigint[] versions.
INSERT INTO versions (topic, key, epoch, version)
SELECT $1::text, batch.key, batch.epoch, batch.version
FROM unnest($2::text[], $3::bigint[], $4::bigint[]) AS batch (key, epoch, version)
ON CONFLICT (topic, key) DO UPDATE SET epoch = EXCLUDED.epoch, version = EXCLUDED.version
