-- Dead letters for people, oldest first, without what they came with. No lock.
-- $1 bigint[] ids or null, $2 text[] reasons (the newest counts) or null, $3 text[] topics, with prefix or without, or null,
-- $4 timestamptz failed from then on or null, $5 timestamptz failed before then or null, $6 boolean also those that were used
-- after all, $7 integer at most.
SELECT
    dead_letter_id, full_topic, partition, record_offset, recorded_at, reason, detail, failed_at, published_at, redriven_at,
    redrives, tried_at, newest_reason, newest_detail, outcome
FROM dead_letters
WHERE ($1::bigint[] IS NULL OR dead_letter_id = ANY ($1::bigint[]))
    AND ($2::text[] IS NULL OR coalesce(newest_reason, reason) = ANY ($2::text[]))
    AND ($3::text[] IS NULL OR topic = ANY ($3::text[]) OR full_topic = ANY ($3::text[]))
    AND ($4::timestamptz IS NULL OR failed_at >= $4::timestamptz)
    AND ($5::timestamptz IS NULL OR failed_at < $5::timestamptz)
    AND ($6::boolean OR redriven_at IS NULL)
ORDER BY dead_letter_id
LIMIT $7::integer
