-- Their contact is known and can't be written to: says why.
-- $1 uuid[] delivery ids, $2 text[] reasons, $3 timestamptz now.
UPDATE deliveries
SET state = 'withheld', reason = batch.reason, settled_at = $3::timestamptz
FROM unnest($1::uuid[], $2::text[]) AS batch (delivery_id, reason)
WHERE deliveries.delivery_id = batch.delivery_id AND deliveries.state = 'waiting_for_contact'
