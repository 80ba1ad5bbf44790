-- Which of these events have an update already.
-- $1 text[] event ids, $2 text channel.
SELECT event_id
FROM updates
WHERE event_id = ANY ($1::text[]) AND channel = $2::text
