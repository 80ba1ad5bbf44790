-- Due dates that a withdrawn message told: the customer didn't hear of them. Those that still hold are told anew.
-- $1 uuid[] messages that are withdrawn, $2 timestamptz now.
UPDATE updates
SET state = 'superseded', reason = 'withdrawn', decided_at = $2::timestamptz
WHERE message_id = ANY ($1::uuid[]) AND event_id LIKE 'timer:%' AND state = 'told'
