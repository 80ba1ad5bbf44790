-- Invariant 3: units that wait by pool and day of rank are what the lines of that day add up to, and nobody waits behind
-- the end of a queue.
WITH sums AS (
    SELECT pool_id, (ranked_at AT TIME ZONE 'UTC')::date AS day, sum(quantity_waiting) AS waiting
    FROM lines WHERE quantity_waiting > 0 GROUP BY pool_id, day
), ends AS (
    SELECT pool_id, max(ranked_at) AS last FROM lines WHERE quantity_waiting > 0 GROUP BY pool_id
), found AS (
    SELECT coalesce(d.waiting, 0) <> coalesce(s.waiting, 0) AS broken,
           format('pool %s on %s: counts %s waiting, lines have %s', pool_id, day, coalesce(d.waiting, 0), coalesce(s.waiting, 0)) AS what,
           jsonb_build_object('pool_id', pool_id) AS about
    FROM queue_days d FULL JOIN sums s USING (pool_id, day)
    UNION ALL
    SELECT p.queue_end IS NULL OR e.last > p.queue_end,
           format('%s at %s: the queue ends at %s, a line is ranked at %s', p.sku, p.location, p.queue_end, e.last),
           jsonb_build_object('sku', p.sku, 'location', p.location)
    FROM ends e JOIN pools p USING (pool_id)
)
SELECT count(*) AS checked, count(*) FILTER (WHERE broken) AS broken, (array_agg(what) FILTER (WHERE broken))[1:5] AS examples,
       (array_agg(about) FILTER (WHERE broken))[1] AS about
FROM found
