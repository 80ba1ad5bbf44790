-- What waits to be decided on, by order, kind and line: when the first and the last of it was recorded.
-- Their orders are locked.
-- $1 text[] order ids.
SELECT order_id, kind, line_no, min(recorded_at) AS first_at, max(recorded_at) AS last_at
FROM updates
WHERE order_id = ANY ($1::text[]) AND state = 'pending'
GROUP BY order_id, kind, line_no
