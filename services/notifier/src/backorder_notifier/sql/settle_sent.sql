-- The provider took it. Whoever has the lease now, and whatever was decided meanwhile: that it was accepted is a fact. No
-- row: that is known already. The order is locked.
-- $1 uuid delivery id, $2 timestamptz now.
UPDATE deliveries
SET state = 'sent', reason = NULL, settled_at = $2::timestamptz, lease = NULL
WHERE delivery_id = $1::uuid AND state <> 'sent'
RETURNING attempts
