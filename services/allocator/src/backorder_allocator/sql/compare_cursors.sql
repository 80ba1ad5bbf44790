-- How far input partitions are worked. Those of which nothing is worked have a row once they are assigned.
SELECT jsonb_build_array(topic, partition)::text COLLATE "C" AS key, to_jsonb(c)::text AS content FROM cursors c
WHERE next_offset > 0
ORDER BY 1
