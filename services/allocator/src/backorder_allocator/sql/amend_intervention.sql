-- What came of an intervention that is done in portions, in the transaction of a further one. $1 id, $2 detail as JSON.
UPDATE interventions SET detail = $2::text::jsonb WHERE intervention_id = $1
