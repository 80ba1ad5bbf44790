-- Shipments that waited for their order wait no more, and need no record. Their orders are locked.
-- $1 shipment ids, $2 order ids.
UPDATE fulfilments f
SET waits = false, topic = NULL, partition = NULL, record_offset = NULL, record_at = NULL, key = NULL, value = NULL,
    header_names = NULL, header_values = NULL
FROM unnest($1::text[], $2::text[]) AS b (shipment_id, order_id)
WHERE f.kind = 'shipped' AND f.shipment_id = b.shipment_id AND f.order_id = b.order_id
