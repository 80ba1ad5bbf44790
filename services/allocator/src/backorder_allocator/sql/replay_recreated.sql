-- The first entry at which topics had been made again that were worked before. $1 the last number wanted.
SELECT number, ARRAY(SELECT DISTINCT span ->> 'topic' FROM jsonb_array_elements(what -> 'gone') AS span ORDER BY 1) AS topics
FROM journal
WHERE kind = 'accepted' AND what ->> 'finding' = 'recreated_topic' AND jsonb_array_length(what -> 'gone') > 0 AND number <= $1
ORDER BY number
LIMIT 1
