-- Why letters are dead, the causes with most open ones first: topic, newest reason, and the first complaint without what
-- differs from letter to letter: the place in a list, and words with digits in them, such as ids and amounts (those in what is
-- said of an invalid message are of the rule it breaks: they stay). No lock.
-- $1 bigint[] ids or null, $2 text[] reasons (the newest counts) or null, $3 text[] topics, with prefix or without, or null,
-- $4 timestamptz failed from then on or null, $5 timestamptz failed before then or null, $6 boolean also causes of which all
-- were used after all, $7 integer at most.
WITH alike AS (
    -- Most letters share their words: these are looked at once.
    SELECT
        full_topic, coalesce(newest_reason, reason) AS reason, coalesce(newest_detail, detail) AS detail,
        count(*) AS letters, count(*) FILTER (WHERE redriven_at IS NULL) AS open,
        min(failed_at) AS first_seen, max(failed_at) AS last_seen,
        min(dead_letter_id) AS oldest, min(dead_letter_id) FILTER (WHERE redriven_at IS NULL) AS oldest_open
    FROM dead_letters
    WHERE ($1::bigint[] IS NULL OR dead_letter_id = ANY ($1::bigint[]))
        AND ($2::text[] IS NULL OR coalesce(newest_reason, reason) = ANY ($2::text[]))
        AND ($3::text[] IS NULL OR topic = ANY ($3::text[]) OR full_topic = ANY ($3::text[]))
        AND ($4::timestamptz IS NULL OR failed_at >= $4::timestamptz)
        AND ($5::timestamptz IS NULL OR failed_at < $5::timestamptz)
    GROUP BY 1, 2, 3
), named AS (
    SELECT
        *,
        CASE
            WHEN reason = 'invalid' THEN first
            ELSE regexp_replace(first, '[^\s:;,]*[0-9][^\s:;,]*', '#', 'g')
        END AS complaint
    FROM alike, LATERAL (
        SELECT regexp_replace(left(split_part(detail, '; ', 1), 120), '\.[0-9]+(?=[.:])', '.*', 'g') AS first
    ) AS said
)
SELECT
    full_topic AS topic, reason, complaint AS detail, sum(letters)::bigint AS count, sum(open)::bigint AS open,
    sum(letters - open)::bigint AS resolved, min(first_seen) AS first_seen, max(last_seen) AS last_seen,
    coalesce(min(oldest_open), min(oldest)) AS example_id
FROM named
GROUP BY full_topic, reason, complaint
HAVING $6::boolean OR sum(open) > 0
ORDER BY open DESC, count DESC, topic, reason, detail
LIMIT $7::integer
