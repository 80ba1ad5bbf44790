-- Every event about an order, in log order, what bound it, and the transaction that decided it. $1 order id.
SELECT j.first_seq + e.ordinal AS seq, j.number AS journal, j.kind, j.what, j.at AS decided_at, e.topic, e.version, e.type, e.id,
       e.occurred_at, e.caused_by, e.value, e.why
FROM events e JOIN journal j USING (batch_id)
WHERE e.key = $1 AND e.topic IN ('allocations', 'backorders')
ORDER BY j.number, e.ordinal
