-- Orders that exist of those it names, as they are; no locks. $1 order ids.
SELECT order_id, placed_at, ranked_at, head_start, head_start_reason, delivery, customer_id, fingerprint,
       release_no, allocations_version, backorders_version, escalates_at, escalated
FROM orders WHERE order_id = ANY ($1::text[])
