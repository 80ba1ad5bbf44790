-- Dead letters with what they came with, oldest first: a portion that fits into memory, at least one where there are any.
-- No lock.
-- $1 bigint[] ids or null, $2 text[] reasons (the newest counts) or null, $3 text[] topics, with prefix or without, or null,
-- $4 timestamptz failed from then on or null, $5 timestamptz failed before then or null, $6 boolean also those that were used
-- after all, $7 bigint: with a higher id than this, $8 integer at most, $9 bigint no more once their values have so many bytes.
SELECT
    letters.dead_letter_id, full_topic, partition, record_offset, recorded_at, reason, detail, failed_at, published_at,
    redriven_at, redrives, tried_at, newest_reason, newest_detail, outcome, topic, record_key, record_value, header_names,
    header_values
FROM dead_letters AS letters
JOIN (
    SELECT dead_letter_id, sum(bytes) OVER (ORDER BY dead_letter_id) - bytes AS bytes_before
    FROM (
        SELECT dead_letter_id, coalesce(octet_length(record_value), 0) AS bytes
        FROM dead_letters
        WHERE ($1::bigint[] IS NULL OR dead_letter_id = ANY ($1::bigint[]))
            AND ($2::text[] IS NULL OR coalesce(newest_reason, reason) = ANY ($2::text[]))
            AND ($3::text[] IS NULL OR topic = ANY ($3::text[]) OR full_topic = ANY ($3::text[]))
            AND ($4::timestamptz IS NULL OR failed_at >= $4::timestamptz)
            AND ($5::timestamptz IS NULL OR failed_at < $5::timestamptz)
            AND ($6::boolean OR redriven_at IS NULL)
            AND dead_letter_id > $7::bigint
        ORDER BY dead_letter_id
        LIMIT $8::integer
    ) AS next
) AS portion USING (dead_letter_id)
WHERE bytes_before < $9::bigint
ORDER BY letters.dead_letter_id
