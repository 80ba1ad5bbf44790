-- Dead letters for people, newest first.
-- $1 text[] reasons or null for all, $2 integer at most.
SELECT
    dead_letter_id, topic, full_topic, partition, record_offset, recorded_at, record_key, record_value, header_names,
    header_values, reason, detail, failed_at, published_at, redriven_at
FROM dead_letters
WHERE $1::text[] IS NULL OR reason = ANY ($1::text[])
ORDER BY dead_letter_id DESC
LIMIT $2::integer
