-- Moves positions forward, never back, and notes how old what is read is. The rows are locked by lock_cursors.
-- $1 timestamptz now; one array a column: $2 full topics, $3 integer partitions, $4 bigint next offsets, $5 boolean: the
-- last record of the batch is old, so there may be more to catch up with.
UPDATE cursors
SET next_offset = greatest(cursors.next_offset, batch.next_offset),
    moved_at = $1::timestamptz,
    behind_since = CASE WHEN batch.behind THEN coalesce(cursors.behind_since, $1::timestamptz) END
FROM unnest($2::text[], $3::integer[], $4::bigint[], $5::boolean[]) AS batch (topic, partition, next_offset, behind)
WHERE cursors.topic = batch.topic AND cursors.partition = batch.partition
