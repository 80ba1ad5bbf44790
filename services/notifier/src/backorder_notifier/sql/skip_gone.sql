-- Goes on behind messages that are gone. Locks the cursors that it moves.
-- $1 text full topic; one array a column: $2 integer partitions, $3 bigint the first offset that is there.
UPDATE cursors
SET next_offset = greatest(cursors.next_offset, batch.next_offset)
FROM unnest($2::integer[], $3::bigint[]) AS batch (partition, next_offset)
WHERE cursors.topic = $1::text AND cursors.partition = batch.partition
