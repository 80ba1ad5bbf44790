-- All positions. Takes no locks.
SELECT topic, partition, next_offset, told_below, moved_by, (SELECT max(upgraded_at) FROM upgrades) AS upgraded_at
FROM cursors
