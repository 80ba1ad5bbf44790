-- The next events of the log. $1 journal number to begin at, $2 seq that is done, $3 how many at most.
SELECT j.number, j.first_seq + e.ordinal AS seq, e.topic, e.key, e.version, e.id, e.type, e.occurred_at, e.caused_by,
       e.traceparent, e.value
FROM journal j
JOIN events e ON e.batch_id = j.batch_id AND e.ordinal > $2::bigint - j.first_seq
WHERE j.number >= $1
ORDER BY j.number, e.ordinal
LIMIT $3
