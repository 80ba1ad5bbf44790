-- Events in the order of the log. $1 the last journal number that is left out, $2 the last one wanted.
SELECT ARRAY[j.number, e.ordinal] AS key, e.type, (to_jsonb(e) - '{batch_id,ordinal}'::text[])::text AS content
FROM journal j JOIN events e USING (batch_id)
WHERE j.number > $1 AND j.number <= $2
ORDER BY j.number, e.ordinal
