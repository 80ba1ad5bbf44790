-- Moves the counters of orders. The rows are locked by lock_orders.
-- $1 text[] order ids, $2 integer[] last position, $3 bigint[] last version on notifications.
UPDATE orders
SET deliveries = batch.deliveries, outcome_version = batch.outcome_version
FROM unnest($1::text[], $2::integer[], $3::bigint[]) AS batch (order_id, deliveries, outcome_version)
WHERE orders.order_id = batch.order_id
