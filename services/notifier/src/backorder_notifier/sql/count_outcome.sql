-- The next version of an order on notifications, and the epoch of this database. The order is locked, and the outcome is appended in the same transaction.
-- $1 text order id.
UPDATE orders SET outcome_version = outcome_version + 1 WHERE order_id = $1::text RETURNING outcome_version, (SELECT epoch FROM identity) AS epoch
