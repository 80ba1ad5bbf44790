-- The number of the rules in force; the same rules have one number. $1 rules as JSON, $2 their fingerprint.
INSERT INTO rules (body, fingerprint) VALUES ($1::text::jsonb, $2)
ON CONFLICT (fingerprint) DO UPDATE SET fingerprint = excluded.fingerprint
RETURNING rules_id
