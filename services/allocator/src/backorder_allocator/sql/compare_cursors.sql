-- How far input partitions are worked, without who was refused. Those of which nothing is worked have a row once they are
-- assigned.
SELECT jsonb_build_array(topic, partition)::text COLLATE "C" AS key, (to_jsonb(c) - '{refused,refused_at}'::text[])::text AS content
FROM cursors c
WHERE next_offset > 0
ORDER BY 1
