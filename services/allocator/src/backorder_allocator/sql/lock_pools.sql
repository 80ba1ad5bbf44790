-- Locks the pools of a transaction, sorted by id: two receipts that touch A, B and B, A would deadlock otherwise. $1 pool ids.
SELECT pool_id, sku, location, on_hand, allocated, waiting, counted_at, policy_revision, safety_stock, preorder_over, named, low,
       causes, queue_end
FROM pools WHERE pool_id = ANY ($1::bigint[])
ORDER BY pool_id
FOR UPDATE
