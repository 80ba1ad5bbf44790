-- Whose a delivery is.
-- $1 uuid delivery id.
SELECT order_id FROM deliveries WHERE delivery_id = $1::uuid
