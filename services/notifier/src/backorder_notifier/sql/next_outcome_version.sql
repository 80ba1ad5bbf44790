-- Locks one order and gives its outcome the next version on notifications, before its delivery is settled.
-- Where nothing is settled after all, the transaction must be rolled back, or the versions would have a gap.
-- $1 text order id.
UPDATE orders
SET outcome_version = outcome_version + 1
WHERE order_id = $1::text
RETURNING outcome_version
