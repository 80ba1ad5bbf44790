-- Before all other locks of a transaction that changes policies: nobody makes a pool of these SKUs until it is committed, so
-- that it can lock and change all of them. Sorted by lock. $1 SKUs.
-- Names fall into 256 locks: one lock a SKU could exhaust the server's table of locks.
WITH buckets AS MATERIALIZED (SELECT DISTINCT hashtext(sku) & 255 AS bucket FROM unnest($1::text[]) AS named (sku))
SELECT pg_advisory_xact_lock(1886350441, bucket) FROM buckets ORDER BY bucket
