-- Dead letters by the place of their record, also of topics that were made again since. $1 topics, $2 partitions, $3 offsets.
-- `at`: which of them, from 1 on.
SELECT n.at, d.dead_letter_id, d.key, d.value, d.header_names, d.header_values, d.reason, d.failed_at
FROM unnest($1::text[], $2::integer[], $3::bigint[]) WITH ORDINALITY AS n (topic, partition, record_offset, at)
CROSS JOIN LATERAL (
    SELECT * FROM dead_letters d WHERE d.topic = n.topic AND d.partition = n.partition AND d.record_offset = n.record_offset OFFSET 0
) d
