-- What the warehouse and the carrier said about an order, in the order in which it came. $1 order id.
SELECT kind, shipment_id, body, early, waits, happened_at FROM fulfilments WHERE order_id = $1 ORDER BY batch_id, ordinal
