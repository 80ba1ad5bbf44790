-- What is known of orders. `published`: the version of the last outcome that is published; null: none was given.
-- $1 text[] order ids.
SELECT
    orders.order_id, orders.known_at IS NOT NULL AS is_known, orders.purged_at IS NOT NULL AS is_purged,
    orders.outcome_version, orders.outcome_digest
FROM orders
WHERE orders.order_id = ANY ($1::text[])
