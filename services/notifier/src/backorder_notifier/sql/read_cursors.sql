-- Where to go on, for partitions just assigned. Takes no locks.
-- $1 text[] full topics.
SELECT topic, partition, next_offset
FROM cursors
WHERE topic = ANY ($1::text[])
ORDER BY topic, partition
