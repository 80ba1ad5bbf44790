-- Every cancel that named an order. $1 order id.
SELECT id, body, early, cancelled_at FROM cancels WHERE order_id = $1 ORDER BY cancelled_at, id
