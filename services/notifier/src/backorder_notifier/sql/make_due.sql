-- Their contact is known: they may be sent.
-- $1 uuid[] delivery ids, $2 timestamptz now.
UPDATE deliveries
SET state = 'due', due_at = $2::timestamptz
WHERE delivery_id = ANY ($1::uuid[]) AND state = 'waiting_for_contact'
