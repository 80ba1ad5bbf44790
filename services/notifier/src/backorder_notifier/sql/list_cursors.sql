-- Every position, for people.
SELECT topic, partition, next_offset
FROM cursors
ORDER BY topic, partition
