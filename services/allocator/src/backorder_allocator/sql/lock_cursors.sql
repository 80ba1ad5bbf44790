-- Locks the cursors of a batch's partitions, sorted; before pools. $1 topics, $2 partitions.
-- Two processes that believe they own a partition meet here: the second reads what the first has committed.
WITH batch AS (SELECT * FROM unnest($1::text[], $2::integer[]) AS b (topic, partition))
SELECT c.topic, c.partition, c.next_offset
FROM cursors c JOIN batch USING (topic, partition)
ORDER BY c.topic, c.partition
FOR UPDATE OF c
