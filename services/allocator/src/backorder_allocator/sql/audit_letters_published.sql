-- The dead letters that count as published, oldest first.
SELECT dead_letter_id, topic, partition, record_offset, failed_at FROM dead_letters WHERE published ORDER BY dead_letter_id
