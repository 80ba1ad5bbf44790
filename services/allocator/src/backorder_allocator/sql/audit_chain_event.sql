-- One event by its place in the log. $1 seq.
SELECT j.first_seq + e.ordinal AS seq, j.number AS journal, j.kind, j.what, j.at, e.topic, e.key, e.version, e.type, e.id,
       e.caused_by, e.value, e.why
FROM journal j JOIN events e ON e.batch_id = j.batch_id AND e.ordinal = $1 - j.first_seq
WHERE j.first_seq <= $1 AND j.first_seq + j.event_count > $1
