-- What a pool counts as shown is the last availability that was published of it, or nothing as long as it is to be shown anew.
WITH last_told AS (
    SELECT DISTINCT ON (key) key, value::json AS value FROM events WHERE topic = 'availability' ORDER BY key, version DESC
), found AS (
    SELECT (p.pool_id IS NULL OR p.shown IS NOT NULL OR p.stale_since IS NULL)
           AND (p.shown ->> 'status', (p.shown ->> 'available')::bigint, (p.shown ->> 'waiting')::bigint,
            (p.shown ->> 'next_promise_at')::timestamptz)
           IS DISTINCT FROM (t.value ->> 'status', (t.value ->> 'available')::bigint, (t.value ->> 'waiting')::bigint,
                             (t.value ->> 'next_promise_at')::timestamptz)
           OR p.pool_id IS NULL AS broken,
           format('%s: shown %s, told %s', coalesce(t.key, p.location || ':' || p.sku), p.shown, t.value) AS what
    FROM (SELECT * FROM pools WHERE shown IS NOT NULL OR availability_version > 0) p FULL JOIN last_told t ON t.key = p.location || ':' || p.sku
)
SELECT count(*) AS checked, count(*) FILTER (WHERE broken) AS broken, (array_agg(what) FILTER (WHERE broken))[1:5] AS examples FROM found
