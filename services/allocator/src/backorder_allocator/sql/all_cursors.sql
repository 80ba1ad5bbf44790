-- How far each input partition is done.
SELECT topic, partition, next_offset FROM cursors ORDER BY topic, partition
