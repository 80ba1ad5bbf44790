-- Which events have an update. $1 text[] event ids.
SELECT event_id, order_id, event ->> 'type' AS type FROM updates WHERE event_id = ANY ($1::text[])
