-- Where to go on reading. $1 topics, $2 partitions. No locks.
WITH assigned AS (SELECT * FROM unnest($1::text[], $2::integer[]) AS a (topic, partition))
SELECT topic, partition, next_offset FROM cursors JOIN assigned USING (topic, partition)
