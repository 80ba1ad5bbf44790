-- Gives back deliveries that were claimed and not tried: due again at once. Only those that the lease still has.
-- $1 uuid[] delivery ids, $2 uuid[] their leases, $3 timestamptz now.
UPDATE deliveries
SET due_at = $3::timestamptz, attempts = deliveries.attempts - 1, lease = NULL
FROM unnest($1::uuid[], $2::uuid[]) AS batch (delivery_id, lease)
WHERE deliveries.delivery_id = batch.delivery_id
    AND deliveries.lease = batch.lease
    AND deliveries.state = 'due'
