-- Dead letters to be driven again, oldest first, not done before. Locks them: of two re-drives at once the second finds none.
-- $1 bigint[] dead letter ids or null for all, $2 text[] reasons or null for all, $3 bigint: with a higher id than this,
-- $4 integer at most.
SELECT
    dead_letter_id, topic, full_topic, partition, record_offset, recorded_at, record_key, record_value, header_names,
    header_values, reason, detail, failed_at, published_at, redriven_at
FROM dead_letters
WHERE redriven_at IS NULL
    AND ($1::bigint[] IS NULL OR dead_letter_id = ANY ($1::bigint[]))
    AND ($2::text[] IS NULL OR reason = ANY ($2::text[]))
    AND dead_letter_id > $3::bigint
ORDER BY dead_letter_id
LIMIT $4::integer
FOR UPDATE
