-- Dead letters by the place of their record, without their number and what the relay has done with them.
SELECT jsonb_build_array(topic, partition, record_offset, topics_ago)::text COLLATE "C" AS key,
       (to_jsonb(d) - '{dead_letter_id,published}'::text[])::text AS content
FROM dead_letters d
ORDER BY 1
