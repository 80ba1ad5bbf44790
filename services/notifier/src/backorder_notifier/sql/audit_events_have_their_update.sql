-- Of every order, the last event applied is the last one that has an update. Orders whose updates were purged are left out.
SELECT
    count(*)::integer AS checked,
    (count(*) FILTER (WHERE last_version IS DISTINCT FROM version))::integer AS broken,
    (
        array_agg(format('order %s: version %s was applied, %s is recorded', key, version, coalesce(last_version, 0)))
        FILTER (WHERE last_version IS DISTINCT FROM version)
    )[:5] AS examples,
    (array_agg(key) FILTER (WHERE last_version IS DISTINCT FROM version))[1] AS order_id
FROM (
    SELECT
        versions.key, versions.version,
        (
            SELECT max((updates.event ->> 'version')::bigint)
            FROM updates
            WHERE updates.order_id = versions.key
                AND updates.topic = versions.topic
                AND (updates.event ->> 'epoch')::bigint = versions.epoch
        ) AS last_version
    FROM versions
    JOIN orders ON orders.order_id = versions.key AND orders.purged_at IS NULL
    WHERE versions.topic = 'backorders'
) AS compared
