-- The input topics as they were when they were first read.
SELECT topic, topic_id, partitions, first_seen_at FROM topics_seen
