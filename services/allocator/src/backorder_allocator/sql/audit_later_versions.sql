-- The events of a key behind a version. $1 topic, $2 key, $3 version.
SELECT j.first_seq + e.ordinal AS seq FROM events e JOIN journal j USING (batch_id)
WHERE e.key = $2 AND e.topic = $1 AND e.version > $3
