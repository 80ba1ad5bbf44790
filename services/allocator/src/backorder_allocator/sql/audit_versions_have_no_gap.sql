-- Invariant 7: versions of a (topic, key) are 1, 2, 3 …, and the counters know the last one.
WITH per_key AS (
    SELECT topic, key, count(*) AS events, min(version) AS first, max(version) AS last FROM events GROUP BY topic, key
), counters AS (
    SELECT 'allocations' AS topic, order_id AS key, allocations_version AS last FROM orders WHERE allocations_version > 0
    UNION ALL SELECT 'backorders', order_id, backorders_version FROM orders WHERE backorders_version > 0
    UNION ALL SELECT 'availability', location || ':' || sku, availability_version FROM pools WHERE availability_version > 0
    UNION ALL SELECT 'stock-alerts', sku, version FROM alert_versions
), found AS (
    SELECT k.first IS DISTINCT FROM 1 OR k.last <> k.events OR k.last IS DISTINCT FROM c.last AS broken,
           format('%s %s: %s events, versions %s to %s, counter %s', topic, key, k.events, k.first, k.last, c.last) AS what,
           jsonb_build_object('event_topic', topic, 'key', key) AS about
    FROM per_key k FULL JOIN counters c USING (topic, key)
)
SELECT count(*) AS checked, count(*) FILTER (WHERE broken) AS broken, (array_agg(what) FILTER (WHERE broken))[1:5] AS examples,
       (array_agg(about) FILTER (WHERE broken))[1] AS about
FROM found
