-- What a person did that is not about one order, in the transaction of what it did.
-- $1 timestamptz now, $2 text by, $3 text note or null, $4 text what, $5 jsonb detail.
INSERT INTO interventions (at, by, note, what, detail)
VALUES ($1::timestamptz, $2::text, $3::text, $4::text, $5::jsonb)
RETURNING intervention_id
