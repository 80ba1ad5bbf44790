-- Takes back deliveries that nobody has in hand: they are locked, and known to be free. What a newer message says
-- replaces them. One whose sender was lost, or is cut off, may have been accepted: that try is in doubt.
-- $1 uuid[] delivery ids, $2 text[] reasons, $3 timestamptz now.
UPDATE deliveries
SET state = 'superseded', reason = batch.reason, settled_at = $3::timestamptz, lease = NULL,
    in_doubt = in_doubt + (deliveries.lease IS NOT NULL)::integer
FROM unnest($1::uuid[], $2::text[]) AS batch (delivery_id, reason)
WHERE deliveries.delivery_id = batch.delivery_id AND deliveries.state = 'due'
