-- Deliveries still in hand are still in hand. Only those that the lease still has; one that is just being settled (its row
-- is locked) needs no lease any more.
-- $1 uuid[] delivery ids, $2 uuid[] their leases, $3 timestamptz end of the leases.
WITH held AS (
    SELECT deliveries.delivery_id
    FROM unnest($1::uuid[], $2::uuid[]) AS batch (delivery_id, lease)
    JOIN deliveries
        ON deliveries.delivery_id = batch.delivery_id AND deliveries.lease = batch.lease AND deliveries.state = 'due'
    FOR UPDATE OF deliveries SKIP LOCKED
)
UPDATE deliveries SET due_at = $3::timestamptz FROM held WHERE deliveries.delivery_id = held.delivery_id
