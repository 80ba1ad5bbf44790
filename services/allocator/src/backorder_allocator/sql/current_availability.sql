-- The newest published availability of every key that has one in a part of the log. $1 journal number and $2 seq to begin
-- behind, $3 last seq of the part, $4 journal number and $5 seq up to which all is published. No locks.
WITH keys AS (
    SELECT DISTINCT e.key
    FROM journal j JOIN events e ON e.batch_id = j.batch_id AND e.ordinal > $2::bigint - j.first_seq
    WHERE j.number BETWEEN $1 AND $4 AND j.first_seq + e.ordinal <= $3 AND e.topic = 'availability'
)
SELECT newest.*
FROM keys k
CROSS JOIN LATERAL (
    SELECT e.topic, e.key, e.version, e.id, e.type, e.occurred_at, e.caused_by, e.traceparent, e.value
    FROM events e JOIN journal j USING (batch_id)
    WHERE e.key = k.key AND e.topic = 'availability' AND j.first_seq + e.ordinal <= $5
    ORDER BY e.version DESC
    LIMIT 1
) newest
