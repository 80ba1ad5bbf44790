-- What operators accepted at starts, newest first.
-- $1 integer at most.
SELECT at, by, what, note AS why, detail
FROM interventions
WHERE order_id IS NULL AND what LIKE 'accepted\_%'
ORDER BY intervention_id DESC
LIMIT $1::integer
