-- The life of every backorder, in log order: what `audits` reads once, streaming. `shipped`: filled by what the warehouse
-- shipped of its own accord, whoever was first in line.
WITH mismatches AS (
    SELECT e.batch_id, e.caused_by, v.order_id, v.line_no, v.quantity
    FROM events e CROSS JOIN LATERAL json_to_record(e.value::json)
        AS v (order_id text, line_no integer, quantity bigint, reason text)
    WHERE e.topic = 'stock-alerts' AND e.type = 'ShipmentMismatch' AND v.reason = 'not_allocated'
)
SELECT j.first_seq + e.ordinal AS seq, e.type, e.key AS order_id, v.line_no, v.sku, v.location, v.quantity, v.quantity_waiting,
       o.ranked_at,
       e.type = 'BackorderFilled' AND (e.batch_id, e.caused_by, e.key, v.line_no, v.quantity)
           IN (SELECT batch_id, caused_by, order_id, line_no, quantity FROM mismatches) AS shipped
FROM journal j
JOIN events e USING (batch_id)
JOIN orders o ON o.order_id = e.key
CROSS JOIN LATERAL json_to_record(e.value::json)
    AS v (line_no integer, sku text, location text, quantity bigint, quantity_waiting bigint)
WHERE e.topic = 'backorders' AND e.type IN ('BackorderCreated', 'BackorderFilled', 'BackorderCancelled')
ORDER BY j.number, e.ordinal
