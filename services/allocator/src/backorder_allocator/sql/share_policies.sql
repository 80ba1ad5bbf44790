-- Before pools of these SKUs are made: their policies stay as they are until that is committed. The other side of
-- lock_policies; those who make pools don't keep each other waiting. Sorted by lock. $1 SKUs.
WITH buckets AS MATERIALIZED (SELECT DISTINCT hashtext(sku) & 255 AS bucket FROM unnest($1::text[]) AS named (sku))
SELECT pg_advisory_xact_lock_shared(1886350441, bucket) FROM buckets ORDER BY bucket
