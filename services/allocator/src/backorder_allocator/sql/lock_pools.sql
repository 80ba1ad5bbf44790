-- Second lock of a batch: its pools, sorted by id. Two receipts that touch A, B and B, A would deadlock otherwise. $1 pool ids.
SELECT pool_id, sku, location, on_hand, allocated, waiting, counted_at
FROM pools WHERE pool_id = ANY ($1::bigint[])
ORDER BY pool_id
FOR UPDATE
