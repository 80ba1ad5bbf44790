-- The newest events of keys, up to a seq, newest first, and the transactions that decided them. $1 topics, $2 keys, $3 line
-- number or null for all, $4 seq, $5 how many at most.
SELECT j.first_seq + e.ordinal AS seq, j.number AS journal, j.kind, j.what, j.at, e.topic, e.key, e.version, e.type, e.id,
       e.caused_by, e.value, e.why
FROM events e JOIN journal j USING (batch_id)
WHERE e.key = ANY ($2::text[]) AND e.topic = ANY ($1::text[]) AND j.first_seq + e.ordinal <= $4
    AND ($3::integer IS NULL OR coalesce((e.value::json ->> 'line_no')::integer, $3) = $3)
ORDER BY j.number DESC, e.ordinal DESC
LIMIT $5
