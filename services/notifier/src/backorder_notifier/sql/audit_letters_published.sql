-- The dead letters that count as published, oldest first. `is_erased`: its customer was forgotten. `bytes`: of the original.
SELECT
    dead_letter_id, full_topic, partition, record_offset, failed_at,
    record_key IS NULL AND record_value IS NULL AND header_names = '{}' AS is_erased,
    coalesce(length(record_key), 0) + coalesce(length(record_value), 0) AS bytes
FROM dead_letters
WHERE published_at IS NOT NULL
ORDER BY dead_letter_id
