-- The newest published availability of each key. $1 seq up to which all is published.
SELECT DISTINCT ON (e.key) e.topic, e.key, e.version, j.first_seq + e.ordinal AS seq
FROM events e JOIN journal j USING (batch_id)
WHERE e.topic = 'availability' AND j.first_seq + e.ordinal <= $1
ORDER BY e.key, e.version DESC
