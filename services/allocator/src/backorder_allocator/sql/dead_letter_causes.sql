-- Why letters are dead, the causes with most open ones first: topic, newest reason, and the first complaint without what differs
-- from letter to letter: the place in a list, and words with digits in them, such as ids and amounts (those in what is said of an
-- invalid message are of the rule it breaks: they stay). No lock.
-- $1 ids or null, $2 reasons (the newest counts) or null, $3 topics without prefix or null, $4 failed from this moment on or null,
-- $5 failed before this moment or null, $6 also causes of which all were resolved, $7 how many causes at most.
WITH alike AS (
    -- Most letters share their words: these are looked at once.
    SELECT topic, coalesce(newest_reason, reason) AS reason, coalesce(newest_detail, detail) AS detail, count(*) AS letters,
           count(*) FILTER (WHERE resolved_at IS NULL) AS open, min(failed_at) AS first_seen, max(failed_at) AS last_seen,
           min(dead_letter_id) AS oldest, min(dead_letter_id) FILTER (WHERE resolved_at IS NULL) AS oldest_open
    FROM dead_letters
    WHERE ($1::bigint[] IS NULL OR dead_letter_id = ANY ($1)) AND ($2::text[] IS NULL OR coalesce(newest_reason, reason) = ANY ($2))
      AND ($3::text[] IS NULL OR topic = ANY ($3)) AND ($4::timestamptz IS NULL OR failed_at >= $4)
      AND ($5::timestamptz IS NULL OR failed_at < $5)
    GROUP BY 1, 2, 3
), named AS (
    SELECT *, CASE WHEN reason = 'invalid' THEN first ELSE regexp_replace(first, '[^\s:;,]*[0-9][^\s:;,]*', '#', 'g') END AS complaint
    FROM alike, LATERAL (
        SELECT regexp_replace(left(split_part(detail, '; ', 1), 120), '\.[0-9]+(?=[.:])', '.*', 'g') AS first
    ) AS said
)
SELECT topic, reason, complaint AS detail, sum(letters)::bigint AS count, sum(open)::bigint AS open,
       sum(letters - open)::bigint AS resolved, min(first_seen) AS first_seen, max(last_seen) AS last_seen,
       coalesce(min(oldest_open), min(oldest)) AS example_id
FROM named
GROUP BY topic, reason, complaint
HAVING $6::boolean OR sum(open) > 0
ORDER BY open DESC, count DESC, topic, reason, detail
LIMIT $7::integer
