-- What the log has of events by topic, key and version. $1 topic, $2 keys, $3 versions. `at`: which of them, from 1 on.
-- OFFSET 0 keeps it to one look-up by index for each, whatever the planner believes of these tables.
SELECT n.at, j.first_seq + e.ordinal AS seq, e.key, e.id, e.type, e.occurred_at, e.traceparent, e.value
FROM unnest($2::text[], $3::bigint[]) WITH ORDINALITY AS n (key, version, at)
CROSS JOIN LATERAL (SELECT * FROM events e WHERE e.key = n.key AND e.topic = $1 AND e.version = n.version OFFSET 0) e
LEFT JOIN LATERAL (SELECT first_seq FROM journal j WHERE j.batch_id = e.batch_id OFFSET 0) j ON true
