-- Pools as the planner needs them. In one snapshot without locks, or under the pools' locks. $1 pool ids.
SELECT pool_id, sku, location, on_hand, allocated, waiting, policy_revision, safety_stock, preorder_over, named, causes,
       revision, stale_since, ages_at, shown, availability_version
FROM pools WHERE pool_id = ANY ($1::bigint[])
