-- Writes pools. Locked by lock_pools. $1 pool ids, $2 to $12 what can change (queue_end only ever grows), $13 now.
-- The planner has to look at each pool that somebody named: since when, and by the revision whether it changed meanwhile.
WITH changed AS (
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::timestamptz[], $6::bigint[], $7::bigint[],
                         $8::boolean[], $9::boolean[], $10::boolean[], $11::integer[], $12::timestamptz[])
        AS c (pool_id, on_hand, allocated, waiting, counted_at, policy_revision, safety_stock, preorder_over, named, low, causes,
              queue_end)
)
UPDATE pools p
SET on_hand = c.on_hand, allocated = c.allocated, waiting = c.waiting, counted_at = c.counted_at,
    policy_revision = c.policy_revision, safety_stock = c.safety_stock, preorder_over = c.preorder_over, named = c.named,
    low = c.low, causes = c.causes, queue_end = greatest(p.queue_end, c.queue_end), revision = p.revision + 1,
    stale_since = CASE WHEN c.named THEN coalesce(p.stale_since, $13::timestamptz) ELSE p.stale_since END
FROM changed c WHERE p.pool_id = c.pool_id
