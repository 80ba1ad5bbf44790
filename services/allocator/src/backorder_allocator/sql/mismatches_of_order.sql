-- What the warehouse shipped of an order of its own accord: alerts, which are kept by SKU. $1 order id.
SELECT j.first_seq + e.ordinal AS seq, j.number AS journal, j.kind, j.what, j.at AS decided_at, e.topic, e.version, e.type, e.id,
       e.occurred_at, e.caused_by, e.value, e.why
FROM events e JOIN journal j USING (batch_id)
WHERE e.key IN (SELECT p.sku FROM lines l JOIN pools p USING (pool_id) WHERE l.order_id = $1)
  AND e.topic = 'stock-alerts' AND e.type = 'ShipmentMismatch' AND e.value::json ->> 'order_id' = $1
