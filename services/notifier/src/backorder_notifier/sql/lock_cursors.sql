-- The positions of a batch's partitions, locked until the transaction ends: a redelivered batch sees that its work is
-- done, and of two processes that hold the same records (one was frozen, say) the second waits here and is refused.
-- Locks cursors in (topic, partition) order. First in every transaction that reads records.
-- $1 text[] full topics, $2 integer[] partitions.
SELECT
    cursors.topic, cursors.partition, cursors.next_offset, cursors.told_below, cursors.moved_by,
    (SELECT max(upgraded_at) FROM upgrades) AS upgraded_at
FROM cursors
JOIN unnest($1::text[], $2::integer[]) AS batch (topic, partition) USING (topic, partition)
ORDER BY cursors.topic, cursors.partition
FOR UPDATE OF cursors
