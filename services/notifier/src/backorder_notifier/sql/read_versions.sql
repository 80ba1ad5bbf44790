-- The last applied version of keys. Their orders are locked.
-- $1 text[] topics, $2 text[] keys (same length).
SELECT versions.topic, versions.key, versions.epoch, versions.version
FROM versions
JOIN unnest($1::text[], $2::text[]) AS batch (topic, key) USING (topic, key)
