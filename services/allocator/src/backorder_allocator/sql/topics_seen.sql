-- The topics as a process last found them right.
SELECT topic, topic_id, partitions, first_offsets FROM topics_seen
