-- Locks the supplies that messages name, sorted; after the pools. $1 supply ids, $2 SKUs.
WITH named AS (SELECT * FROM unnest($1::text[], $2::text[]) AS n (supply_id, sku))
SELECT s.supply_id, s.sku, p.location, s.revision, s.quantity, s.received, s.expected_at, s.first_expected_at, s.supplier,
       s.cancelled, s.overdue, s.fingerprint
FROM supplies s JOIN named USING (sku, supply_id) LEFT JOIN pools p USING (pool_id)
ORDER BY s.sku, s.supply_id
FOR UPDATE OF s
