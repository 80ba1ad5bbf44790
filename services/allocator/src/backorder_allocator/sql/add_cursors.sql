-- Makes a cursor for each assigned partition that has none, so that there is a row to lock. $1 topics, $2 partitions.
-- 0 means "from the start of the log", wherever that is.
WITH assigned AS (SELECT * FROM unnest($1::text[], $2::integer[]) AS a (topic, partition))
INSERT INTO cursors (topic, partition, next_offset)
SELECT topic, partition, 0 FROM assigned ORDER BY topic, partition
ON CONFLICT DO NOTHING
