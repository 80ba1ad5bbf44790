-- What came of an act that is done in portions, in the transaction of a further one.
-- $1 bigint intervention id, $2 jsonb detail.
UPDATE interventions SET detail = $2::jsonb WHERE intervention_id = $1::bigint
