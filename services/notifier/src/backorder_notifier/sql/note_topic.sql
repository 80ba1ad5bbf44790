-- A topic as it is now.
-- $1 text full topic, $2 uuid its id, $3 integer partitions, $4 timestamptz now.
INSERT INTO topics_seen (topic, topic_id, partitions, first_seen_at)
VALUES ($1::text, $2::uuid, $3::integer, $4::timestamptz)
ON CONFLICT (topic) DO UPDATE
SET first_seen_at = CASE
        WHEN topics_seen.topic_id = excluded.topic_id THEN topics_seen.first_seen_at ELSE excluded.first_seen_at
    END,
    topic_id = excluded.topic_id,
    partitions = excluded.partitions
