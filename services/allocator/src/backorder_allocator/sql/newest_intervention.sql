-- What a person decided last.
SELECT at, by, what, why FROM interventions ORDER BY intervention_id DESC LIMIT 1
