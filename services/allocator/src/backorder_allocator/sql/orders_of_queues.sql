-- The orders that wait or hold units in pools, with all their lines, wherever these are. $1 pool ids.
WITH concerned AS (
    SELECT order_id FROM lines WHERE pool_id = ANY ($1::bigint[]) AND quantity_waiting > 0
    UNION
    SELECT order_id FROM lines WHERE pool_id = ANY ($1::bigint[]) AND quantity_allocated > quantity_shipped + quantity_released
)
SELECT o.order_id, o.placed_at, o.ranked_at, o.delivery, o.customer_id, o.fingerprint, o.release_no, o.escalates_at, o.escalated,
       l.line_no, p.sku, p.location, l.quantity_ordered, l.quantity_allocated, l.quantity_waiting, l.quantity_cancelled,
       l.quantity_rejected, l.quantity_shipped, l.releases, l.promised_at, l.first_promised_at, l.lead_at, l.lead_days
FROM concerned c JOIN orders o USING (order_id) JOIN lines l USING (order_id) JOIN pools p USING (pool_id)
ORDER BY o.order_id, l.line_no
