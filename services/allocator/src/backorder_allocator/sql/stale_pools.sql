-- Pools whose promises or availability may differ from what was published, the longest waiting first: those that changed,
-- and those whose availability was true for a time that is over. No locks.
-- $1 how many at most, $2 ids that are left out, $3 now.
SELECT pool_id, sku, location, waiting, causes
FROM (
    (SELECT pool_id, sku, location, waiting, causes, stale_since AS since
     FROM pools
     WHERE stale_since IS NOT NULL AND pool_id <> ALL ($2::bigint[])
     ORDER BY stale_since
     LIMIT $1)
    UNION ALL
    (SELECT pool_id, sku, location, waiting, causes, ages_at
     FROM pools
     WHERE ages_at <= $3 AND stale_since IS NULL AND pool_id <> ALL ($2::bigint[])
     ORDER BY ages_at
     LIMIT $1)
) found
ORDER BY since
LIMIT $1
