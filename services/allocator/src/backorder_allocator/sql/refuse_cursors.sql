-- Notes that a process was refused that believed partitions were still its own. Locked by lock_cursors.
-- $1 topics, $2 partitions, $3 now.
WITH refused AS (SELECT * FROM unnest($1::text[], $2::integer[]) AS r (topic, partition))
UPDATE cursors c SET refused = c.refused + 1, refused_at = $3
FROM refused r WHERE c.topic = r.topic AND c.partition = r.partition
