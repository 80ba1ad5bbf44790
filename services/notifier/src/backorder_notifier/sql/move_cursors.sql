-- Moves positions forward, never back. The rows are locked by lock_cursors.
-- $1 text[] full topics, $2 integer[] partitions, $3 bigint[] next offsets.
UPDATE cursors
SET next_offset = batch.next_offset
FROM unnest($1::text[], $2::integer[], $3::bigint[]) AS batch (topic, partition, next_offset)
WHERE cursors.topic = batch.topic
    AND cursors.partition = batch.partition
    AND cursors.next_offset < batch.next_offset
