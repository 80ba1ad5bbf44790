-- Gives back deliveries that may not be tried yet: due at their times, as if they had not been claimed, and the provider
-- has its tokens back (its row is locked).
-- $1 text channel, $2 text reason, $3 uuid[] delivery ids, $4 uuid[] their leases, $5 timestamptz[] due again.
WITH put_off AS (
    UPDATE deliveries
    SET due_at = batch.due_at,
        reason = $2::text,
        attempts = deliveries.attempts - 1,
        first_attempt_at = CASE WHEN deliveries.attempts > 1 THEN deliveries.first_attempt_at END,
        lease = NULL
    FROM unnest($3::uuid[], $4::uuid[], $5::timestamptz[]) AS batch (delivery_id, lease, due_at)
    WHERE deliveries.delivery_id = batch.delivery_id AND deliveries.lease = batch.lease AND deliveries.state = 'due'
    RETURNING deliveries.delivery_id
)
UPDATE providers SET tokens = tokens + (SELECT count(*) FROM put_off) WHERE channel = $1::text
