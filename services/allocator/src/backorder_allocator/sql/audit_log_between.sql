-- The log from one seq to another, in its order, without what is published. $1 first seq, $2 last seq.
SELECT j.first_seq + e.ordinal AS seq, e.topic, e.key, e.version
FROM journal j JOIN events e USING (batch_id)
WHERE j.first_seq <= $2 AND j.first_seq + j.event_count > $1
ORDER BY j.number, e.ordinal
