-- Dead letters for people, oldest first, without their bytes. No lock.
-- $1 ids or null, $2 reasons (the newest counts) or null, $3 topics without prefix or null, $4 failed from this moment on or null,
-- $5 failed before this moment or null, $6 also those that were resolved, $7 how many at most.
SELECT dead_letter_id, topic, partition, record_offset, topics_ago, record_at, reason, detail, failed_at, published, redrives,
       redriven_at, newest_reason, newest_detail, resolved_at, outcome
FROM dead_letters
WHERE ($1::bigint[] IS NULL OR dead_letter_id = ANY ($1)) AND ($2::text[] IS NULL OR coalesce(newest_reason, reason) = ANY ($2))
  AND ($3::text[] IS NULL OR topic = ANY ($3)) AND ($4::timestamptz IS NULL OR failed_at >= $4)
  AND ($5::timestamptz IS NULL OR failed_at < $5) AND ($6::boolean OR resolved_at IS NULL)
ORDER BY dead_letter_id
LIMIT $7::integer
