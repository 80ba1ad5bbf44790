-- Writes pools. Locked by lock_pools. $1 pool ids, $2 on hand, $3 allocated, $4 waiting, $5 counted at.
WITH changed AS (
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::timestamptz[])
        AS c (pool_id, on_hand, allocated, waiting, counted_at)
)
UPDATE pools p SET on_hand = c.on_hand, allocated = c.allocated, waiting = c.waiting, counted_at = c.counted_at
FROM changed c WHERE p.pool_id = c.pool_id
