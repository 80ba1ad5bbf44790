-- Moves positions forward, never back, and notes who did, and how old what is read is. What is refused is counted instead.
-- The rows are locked by lock_cursors.
-- $1 timestamptz now, $2 uuid the process; one array a column: $3 full topics, $4 integer partitions, $5 bigint next
-- offsets, $6 boolean: the last record of the batch is old, so there may be more to catch up with, $7 boolean: another
-- process has worked records of the batch while this one believed the partition to be its own.
UPDATE cursors
SET next_offset = greatest(cursors.next_offset, batch.next_offset),
    moved_by = CASE WHEN batch.next_offset > cursors.next_offset THEN $2::uuid ELSE cursors.moved_by END,
    moved_at = $1::timestamptz,
    behind_since = CASE WHEN batch.behind THEN coalesce(cursors.behind_since, $1::timestamptz) END,
    refused = cursors.refused + batch.refused::integer,
    refused_at = CASE WHEN batch.refused THEN $1::timestamptz ELSE cursors.refused_at END
FROM unnest($3::text[], $4::integer[], $5::bigint[], $6::boolean[], $7::boolean[])
    AS batch (topic, partition, next_offset, behind, refused)
WHERE cursors.topic = batch.topic AND cursors.partition = batch.partition
