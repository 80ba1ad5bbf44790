-- Remembers what was applied. Their orders are locked.
-- $1 text[] topics, $2 text[] keys, $3 bigint[] epochs, $4 bigint[] versions.
INSERT INTO versions (topic, key, epoch, version)
SELECT batch.topic, batch.key, batch.epoch, batch.version
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) AS batch (topic, key, epoch, version)
ON CONFLICT (topic, key) DO UPDATE SET epoch = excluded.epoch, version = excluded.version
