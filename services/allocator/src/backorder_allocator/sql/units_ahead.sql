-- How many units wait strictly ahead of places in queues: sums of the days before (UTC), and the lines of the place's own day
-- up to the last place asked for. So it costs days and the lines of a day, not the lines of the queue.
-- $1 pool ids, $2 ranked at, $3 order ids, $4 line numbers. Under the pools' locks.
WITH places AS (
    SELECT pool_id, ranked_at, order_id COLLATE "C" AS order_id, line_no, (ranked_at AT TIME ZONE 'UTC')::date AS day
    FROM unnest($1::bigint[], $2::timestamptz[], $3::text[], $4::integer[]) AS p (pool_id, ranked_at, order_id, line_no)
), days AS (
    SELECT d.pool_id, d.day, d.last,
           (SELECT coalesce(sum(q.waiting), 0) FROM queue_days q WHERE q.pool_id = d.pool_id AND q.day < d.day) AS before
    FROM (SELECT pool_id, day, max(ranked_at) AS last FROM places GROUP BY pool_id, day) d
), rows AS (
    SELECT pool_id, day, ranked_at, order_id, line_no, 0 AS units, true AS asked FROM places
    UNION ALL
    SELECT d.pool_id, d.day, l.ranked_at, l.order_id, l.line_no, l.quantity_waiting, false
    FROM days d
    CROSS JOIN LATERAL (
        SELECT l.ranked_at, l.order_id, l.line_no, l.quantity_waiting FROM lines l
        WHERE l.pool_id = d.pool_id AND l.quantity_waiting > 0
          AND l.ranked_at >= d.day::timestamp AT TIME ZONE 'UTC' AND l.ranked_at <= d.last
    ) l
), summed AS (
    -- Of the same rank, the place comes first: a line that waits already is not ahead of itself.
    SELECT pool_id, day, ranked_at, order_id, line_no, asked,
           sum(units) OVER (PARTITION BY pool_id, day ORDER BY ranked_at, order_id, line_no, asked DESC
                            ROWS UNBOUNDED PRECEDING) AS units
    FROM rows
)
SELECT s.pool_id, s.ranked_at, s.order_id, s.line_no, (d.before + s.units)::bigint AS ahead
FROM summed s JOIN days d USING (pool_id, day)
WHERE s.asked
