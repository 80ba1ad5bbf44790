-- Which shipments and deliveries were taken before. $1 kinds, $2 shipment ids, $3 order ids.
WITH named AS (SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) AS n (kind, shipment_id, order_id))
SELECT f.kind, f.shipment_id, f.order_id, f.fingerprint FROM fulfilments f JOIN named USING (order_id, shipment_id, kind)
