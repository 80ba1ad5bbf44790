-- Writes supplies that exist. Locked by lock_supplies. $1 supply ids, $2 SKUs, then what can change.
WITH changed AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::timestamptz[],
                         $8::timestamptz[], $9::text[], $10::boolean[], $11::boolean[], $12::bytea[])
        AS c (supply_id, sku, revision, pool_id, quantity, received, expected_at, first_expected_at, supplier, cancelled, overdue,
              fingerprint)
)
UPDATE supplies s
SET revision = c.revision, pool_id = c.pool_id, quantity = c.quantity, received = c.received, expected_at = c.expected_at,
    first_expected_at = c.first_expected_at, supplier = c.supplier, cancelled = c.cancelled, overdue = c.overdue,
    fingerprint = c.fingerprint
FROM changed c WHERE s.sku = c.sku AND s.supply_id = c.supply_id
