-- Rows for partitions never read before, so that there is something to lock. Locks nothing that exists.
-- $1 text[] full topics, $2 integer[] partitions (same length, sorted).
INSERT INTO cursors (topic, partition, next_offset)
SELECT topic, partition, 0
FROM unnest($1::text[], $2::integer[]) AS batch (topic, partition)
ORDER BY topic, partition
ON CONFLICT (topic, partition) DO NOTHING
