-- Shipments that waited for their order and can't be, once it came: their records become dead letters at their own place, and
-- they count as never said. One that waited because it had been driven again is dead once more. Their orders are locked. $1 shipment ids, $2 order ids, $3 reasons, $4 details, $5 now.
WITH late AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS l (shipment_id, order_id, reason, detail)
), taken AS (
    DELETE FROM fulfilments f USING late l
    WHERE f.kind = 'shipped' AND f.shipment_id = l.shipment_id AND f.order_id = l.order_id AND f.waits
    RETURNING f.*, l.reason, l.detail
)
INSERT INTO dead_letters (topic, partition, record_offset, record_at, key, value, header_names, header_values, reason, detail,
                          failed_at)
SELECT topic, partition, record_offset, record_at, key, value, header_names, header_values, reason, detail, $5::timestamptz
FROM taken ORDER BY batch_id, ordinal
ON CONFLICT (topic, partition, record_offset, topics_ago) DO UPDATE
SET reason = excluded.reason, detail = excluded.detail, failed_at = excluded.failed_at, published = false, redrives = 0,
    redriven_at = NULL, newest_reason = NULL, newest_detail = NULL, resolved_at = NULL, outcome = NULL
