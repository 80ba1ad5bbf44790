-- Journal entries without what each database numbers by itself. $1 the last number that is left out, $2 the last one wanted.
SELECT ARRAY[number] AS key, (to_jsonb(j) - '{batch_id,rules_id}'::text[])::text AS content
FROM journal j
WHERE number > $1 AND number <= $2
ORDER BY number
