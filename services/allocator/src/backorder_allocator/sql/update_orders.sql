-- Writes orders that exist. Locked by lock_orders. $1 order ids, then their columns in the order of the table.
WITH changed AS (
    SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[], $4::interval[], $5::text[], $6::text[], $7::text[],
                         $8::bytea[], $9::integer[], $10::bigint[], $11::bigint[], $12::timestamptz[], $13::boolean[])
        AS c (order_id, placed_at, ranked_at, head_start, head_start_reason, delivery, customer_id,
              fingerprint, release_no, allocations_version, backorders_version, escalates_at, escalated)
)
UPDATE orders o
SET placed_at = c.placed_at, ranked_at = c.ranked_at, head_start = c.head_start, head_start_reason = c.head_start_reason,
    delivery = c.delivery, customer_id = c.customer_id, fingerprint = c.fingerprint, release_no = c.release_no,
    allocations_version = c.allocations_version, backorders_version = c.backorders_version, escalates_at = c.escalates_at,
    escalated = c.escalated
FROM changed c WHERE o.order_id = c.order_id
