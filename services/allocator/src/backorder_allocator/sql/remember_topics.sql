-- Notes topics, where they are new or others than before, which somebody has accepted. $1 topics, $2 ids (null: the broker
-- doesn't tell), $3 first offsets of partitions as JSON arrays, $4 now. lock_start is held.
INSERT INTO topics_seen AS s (topic, topic_id, partitions, first_offsets, first_seen_at)
SELECT topic, topic_id, cardinality(first), first, $4
FROM unnest($1::text[], $2::text[], $3::text[]) AS t (topic, topic_id, firsts),
     LATERAL (SELECT ARRAY(SELECT n::bigint FROM json_array_elements_text(firsts::json) WITH ORDINALITY AS a (n, at) ORDER BY at)) AS f (first)
ON CONFLICT (topic) DO UPDATE
SET topic_id = excluded.topic_id, partitions = excluded.partitions, first_offsets = excluded.first_offsets,
    first_seen_at = CASE WHEN excluded.topic_id <> s.topic_id THEN excluded.first_seen_at ELSE s.first_seen_at END
WHERE (s.topic_id, s.first_offsets) IS DISTINCT FROM (excluded.topic_id, excluded.first_offsets)
