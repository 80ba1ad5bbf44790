-- The places in the list of records that the log has not, byte for byte. No locks.
-- $1 topics, $2 keys, $3 versions, $4 SHA-256 of values.
SELECT p.ordinal
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bytea[]) WITH ORDINALITY AS p (topic, key, version, digest, ordinal)
WHERE (SELECT sha256(convert_to(e.value, 'UTF8')) FROM events e WHERE e.key = p.key AND e.topic = p.topic AND e.version = p.version)
      IS DISTINCT FROM p.digest
