-- Who drove a dead letter again, when, why, and what came of it, oldest first.
-- $1 bigint dead letter id.
SELECT at, by, note, detail
FROM interventions
WHERE what = 'dead_letter_redriven' AND (detail ->> 'dead_letter_id')::bigint = $1::bigint
ORDER BY intervention_id
