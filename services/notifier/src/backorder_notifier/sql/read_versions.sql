-- The last applied version of keys. Their orders are locked.
-- $1 text topic, $2 text[] keys.
SELECT key, epoch, version
FROM versions
WHERE topic = $1::text AND key = ANY ($2::text[])
