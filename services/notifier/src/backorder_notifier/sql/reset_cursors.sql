-- A topic that was made again is read from its beginning. Partitions that it no longer has are forgotten; what the
-- release before 0002 told is not told apart any more by position. Locks the topic's cursors.
-- $1 text full topic; one array a column: $2 integer partitions, $3 bigint the first offset of each.
WITH removed AS (
    DELETE FROM cursors WHERE topic = $1::text AND partition <> ALL ($2::integer[])
)
INSERT INTO cursors (topic, partition, next_offset)
SELECT $1::text, batch.partition, batch.next_offset
FROM unnest($2::integer[], $3::bigint[]) AS batch (partition, next_offset)
ORDER BY batch.partition
ON CONFLICT (topic, partition) DO UPDATE SET next_offset = excluded.next_offset, told_below = 0, moved_by = NULL
