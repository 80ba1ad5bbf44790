-- First lock of the planner: its pools, sorted by id as everywhere. Those that a batch holds are left for the next run:
-- nothing is given away here, so the order of runs decides nothing. $1 pool ids.
-- What it read may be older than the lock: the rows are read by the next statement.
SELECT pool_id FROM pools WHERE pool_id = ANY ($1::bigint[])
ORDER BY pool_id
FOR UPDATE SKIP LOCKED
