-- Moves the cursors of a batch. Locked by lock_cursors. $1 topics, $2 partitions, $3 next offsets.
WITH batch AS (SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[]) AS b (topic, partition, next_offset))
UPDATE cursors c SET next_offset = b.next_offset
FROM batch b WHERE c.topic = b.topic AND c.partition = b.partition
