-- How many orders wait in a pool. $1 pool id, locked.
SELECT count(DISTINCT order_id) AS orders FROM lines WHERE pool_id = $1 AND quantity_waiting > 0
