-- The ends of the log and of all that is worked, in one snapshot. No locks. Without cursors one row with null for topic.
SELECT h.journal, h.epoch, c.topic, c.partition, c.next_offset
FROM log_head h LEFT JOIN cursors c ON true
