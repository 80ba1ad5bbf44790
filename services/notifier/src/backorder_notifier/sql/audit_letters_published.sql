-- The dead letters that count as published, oldest first. `is_erased`: its customer was forgotten.
SELECT
    dead_letter_id, full_topic, partition, record_offset, failed_at,
    record_key IS NULL AND record_value IS NULL AND header_names = '{}' AS is_erased
FROM dead_letters
WHERE published_at IS NOT NULL
ORDER BY dead_letter_id
