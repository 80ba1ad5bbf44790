-- The next journal entries to repeat. $1 the last number done, $2 the last one wanted, $3 how many at most.
-- `records`: how many were worked, each with one outcome. `epoch` of its events, null where it has none.
SELECT j.number, j.kind, j.what, j.at, j.rules_id, j.applied + j.duplicates + j.ignored + j.dead_letters AS records,
       (SELECT (e.value::json ->> 'epoch')::integer FROM events e WHERE e.batch_id = j.batch_id AND e.ordinal = 0) AS epoch
FROM journal j
WHERE j.number > $1 AND j.number <= $2
ORDER BY j.number
LIMIT $3
