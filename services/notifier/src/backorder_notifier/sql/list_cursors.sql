-- Every position, for people.
SELECT topic, partition, next_offset, refused, refused_at
FROM cursors
ORDER BY topic, partition
