-- Orders after a decision. The rows are locked.
-- One array a column: $1 order_id, $2 dossier, $3 tell_at, $4 messages, $5 outcome_version.
UPDATE orders
SET dossier = batch.dossier,
    tell_at = batch.tell_at,
    messages = batch.messages,
    outcome_version = batch.outcome_version
FROM unnest($1::text[], $2::jsonb[], $3::timestamptz[], $4::integer[], $5::bigint[])
    AS batch (order_id, dossier, tell_at, messages, outcome_version)
WHERE orders.order_id = batch.order_id
