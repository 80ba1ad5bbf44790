-- Orders that can't be decided on now: they are looked at again. The rows are locked, or nobody else's business.
-- $1 text[] order ids, $2 timestamptz[] when.
UPDATE orders
SET tell_at = batch.tell_at
FROM unnest($1::text[], $2::timestamptz[]) AS batch (order_id, tell_at)
WHERE orders.order_id = batch.order_id AND orders.tell_at IS NOT NULL
