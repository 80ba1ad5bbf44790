-- Who changed what by a command.
-- $1 timestamptz now, $2 text by, $3 text note or null; one array a column: $4 what, $5 order_id, $6 delivery_id,
-- $7 message_id.
INSERT INTO interventions (at, by, note, what, order_id, delivery_id, message_id)
SELECT $1::timestamptz, $2::text, $3::text, batch.what, batch.order_id, batch.delivery_id, batch.message_id
FROM unnest($4::text[], $5::text[], $6::uuid[], $7::uuid[]) AS batch (what, order_id, delivery_id, message_id)
