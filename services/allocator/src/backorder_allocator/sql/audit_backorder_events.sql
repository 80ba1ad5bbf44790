-- The life of every backorder, in log order: what `audits` reads once, streaming.
SELECT j.first_seq + e.ordinal AS seq, e.type, e.key AS order_id, v.line_no, v.sku, v.location, v.quantity, v.quantity_waiting,
       o.ranked_at
FROM journal j
JOIN events e USING (batch_id)
JOIN orders o ON o.order_id = e.key
CROSS JOIN LATERAL json_to_record(e.value::json)
    AS v (line_no integer, sku text, location text, quantity bigint, quantity_waiting bigint)
WHERE e.topic = 'backorders' AND e.type IN ('BackorderCreated', 'BackorderFilled', 'BackorderCancelled')
ORDER BY j.number, e.ordinal
