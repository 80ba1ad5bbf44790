-- Of every order, its events from the first that is recorded to the last are there, each once. A version that never came
-- (NOTIFIER_GAP_WAIT) is a violation too: somebody should ask why.
SELECT
    count(*)::integer AS checked,
    (count(*) FILTER (WHERE is_broken))::integer AS broken,
    (
        array_agg(format('order %s: %s events between versions %s and %s', order_id, events, first_version, last_version))
        FILTER (WHERE is_broken)
    )[:5] AS examples,
    (array_agg(order_id) FILTER (WHERE is_broken))[1] AS order_id
FROM (
    SELECT
        order_id, count(*) AS events, min(version) AS first_version, max(version) AS last_version,
        count(*) <> max(version) - min(version) + 1 OR count(*) <> count(DISTINCT version) AS is_broken
    FROM (
        SELECT order_id, (event ->> 'epoch')::bigint AS epoch, (event ->> 'version')::bigint AS version
        FROM updates
        WHERE topic = 'backorders'
    ) AS events
    GROUP BY order_id, epoch
) AS compared
