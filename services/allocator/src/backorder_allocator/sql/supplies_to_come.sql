-- All supplies that still bring something to locked pools. $1 pool ids.
-- No locks of their own: whoever changes a supply holds the lock of its pool.
SELECT s.supply_id, s.sku, p.location, s.revision, s.quantity, s.received, s.expected_at, s.first_expected_at, s.supplier,
       s.cancelled, s.overdue, s.fingerprint
FROM supplies s JOIN pools p USING (pool_id)
WHERE s.pool_id = ANY ($1::bigint[]) AND s.to_come > 0
