-- What an operator accepted at a start, once for each finding: a flag that is given at every start says nothing new.
-- $1 timestamptz now, $2 text by, $3 text what, $4 text why or null, $5 jsonb what was found.
INSERT INTO interventions (at, by, what, note, detail)
SELECT $1::timestamptz, $2::text, $3::text, $4::text, $5::jsonb
WHERE NOT EXISTS (
    SELECT FROM interventions WHERE order_id IS NULL AND what = $3::text AND detail = $5::jsonb
)
