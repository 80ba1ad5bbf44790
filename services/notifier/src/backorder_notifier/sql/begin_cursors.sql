-- Where reading begins in partitions that were never read: with a row for each, a later start sees also there what was
-- lost meanwhile. Moves nothing that was read.
-- $1 text full topic; one array a column: $2 integer partitions, $3 bigint the first offset of each.
INSERT INTO cursors (topic, partition, next_offset)
SELECT $1::text, batch.partition, batch.next_offset
FROM unnest($2::integer[], $3::bigint[]) AS batch (partition, next_offset)
ORDER BY batch.partition
ON CONFLICT (topic, partition) DO UPDATE SET next_offset = excluded.next_offset WHERE cursors.next_offset = 0
