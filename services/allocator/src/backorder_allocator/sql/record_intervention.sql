-- What a person decided, in the transaction of what it did. $1 at, $2 by whom, $3 what, $4 why or null, $5 detail as JSON.
INSERT INTO interventions (at, by, what, why, detail) VALUES ($1, $2, $3, $4, $5::text::jsonb) RETURNING intervention_id
