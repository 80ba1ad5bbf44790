-- Nobody knows any more what was shown of pools: the planner shows all of them again. Locks pools, sorted. $1 since when.
WITH locked AS (SELECT pool_id FROM pools WHERE named ORDER BY pool_id FOR UPDATE)
UPDATE pools p SET shown = NULL, stale_since = coalesce(p.stale_since, $1), revision = p.revision + 1
FROM locked l WHERE l.pool_id = p.pool_id
