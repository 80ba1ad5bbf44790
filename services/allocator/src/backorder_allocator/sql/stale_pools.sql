-- Pools whose promises or availability may differ from what was published, the longest waiting first. No locks.
-- $1 how many at most, $2 ids that are left out.
SELECT pool_id, sku, location, waiting, causes
FROM pools
WHERE stale_since IS NOT NULL AND pool_id <> ALL ($2::bigint[])
ORDER BY stale_since
LIMIT $1
