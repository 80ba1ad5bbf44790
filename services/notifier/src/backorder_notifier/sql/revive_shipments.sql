-- Shipments, deliveries and cancels of orders that were not told because nothing of the order had ever waited: something had, as is
-- known now (the topic that says so was read later). Only those from after it began to wait. The orders are locked.
-- $1 text[] order ids, $2 timestamptz[] since when something waited.
UPDATE updates
SET state = 'pending',
    kind = CASE updates.event ->> 'type'
        WHEN 'LinesShipped' THEN 'shipped'
        WHEN 'LinesDelivered' THEN 'delivered'
        ELSE 'backorder_cancelled'
    END,
    reason = NULL,
    decided_at = NULL
FROM unnest($1::text[], $2::timestamptz[]) AS batch (order_id, waited_at)
WHERE updates.order_id = batch.order_id
    AND updates.state = 'not_told'
    AND updates.reason = 'never_waited'
    AND updates.occurred_at >= batch.waited_at
