-- Dead letters by the place of their record, also of topics that were made again since. `at`: which of them, from 1 on.
-- $1 text[] full topics, $2 integer[] partitions, $3 bigint[] offsets.
SELECT
    named.at, letters.dead_letter_id, letters.record_key, letters.record_value, letters.header_names,
    letters.header_values, letters.reason, letters.failed_at
FROM unnest($1::text[], $2::integer[], $3::bigint[]) WITH ORDINALITY AS named (full_topic, partition, record_offset, at)
JOIN dead_letters AS letters
    ON letters.full_topic = named.full_topic
    AND letters.partition = named.partition
    AND letters.record_offset = named.record_offset
