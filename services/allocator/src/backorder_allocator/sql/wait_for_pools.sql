-- First lock of the planner where it must not be overtaken once more: its pools, sorted by id as everywhere. $1 pool ids.
SELECT pool_id FROM pools WHERE pool_id = ANY ($1::bigint[])
ORDER BY pool_id
FOR UPDATE
