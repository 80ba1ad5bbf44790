-- The journal entry that worked an input, the newest first: a topic that was made again counts its offsets anew. $1 topic,
-- $2 partition, $3 offset.
SELECT j.number FROM journal j, jsonb_to_recordset(j.what) AS r (topic text, partition integer, "from" bigint, "to" bigint)
WHERE j.kind = 'batch' AND r.topic = $1 AND r.partition = $2 AND r."from" <= $3 AND r."to" > $3
ORDER BY j.number DESC LIMIT 1
