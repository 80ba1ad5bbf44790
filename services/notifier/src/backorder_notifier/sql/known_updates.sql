-- Which of these ids have an update already, of which event, and what became of it. Their orders are locked; an id that
-- belongs to another order was given to two messages.
-- $1 text[] event ids.
SELECT event_id, order_id, topic, event ->> 'type' AS type, state
FROM updates
WHERE event_id = ANY ($1::text[])
