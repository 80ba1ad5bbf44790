-- The lines of pools whose promise may be another than the one published, in rank order, each with the units that wait
-- ahead of it and its own (`wanted`): those that wait, and those that are held until a pre-order's release (0 units wait).
-- Left out is who stays on the calendar day (UTC) that was published. In one snapshot with the pools, or under their locks.
-- For each pool: $1 its id, $2 its steps [[units], [days]] as JSON: up to so many units are promised that day, $3 the lead
-- time in days of all behind the last step, $4 until when a pre-order holds units.
WITH known AS MATERIALIZED (
    SELECT pool_id, lead_days, release_at,
           ARRAY (SELECT jsonb_array_elements_text(steps -> 0)::bigint) AS reached,
           ARRAY (SELECT jsonb_array_elements_text(steps -> 1)::date) AS days
    FROM unnest($1::bigint[], $2::text[], $3::int[], $4::timestamptz[]) AS k (pool_id, text, lead_days, release_at),
         LATERAL (SELECT text::jsonb AS steps) s
), in_line AS (
    SELECT pool_id, ranked_at, order_id, line_no, quantity_waiting, promised_at, first_promised_at, lead_at, lead_days,
           sum(quantity_waiting) OVER (PARTITION BY pool_id ORDER BY ranked_at, order_id, line_no
                                       ROWS UNBOUNDED PRECEDING)::bigint AS wanted
    FROM lines WHERE pool_id = ANY ($1::bigint[]) AND quantity_waiting > 0
    UNION ALL
    SELECT pool_id, ranked_at, order_id, line_no, 0, promised_at, first_promised_at, lead_at, lead_days, 0
    FROM lines
    WHERE pool_id = ANY (ARRAY (SELECT k.pool_id FROM known k WHERE k.release_at IS NOT NULL))
      AND quantity_allocated > quantity_shipped + quantity_released AND quantity_waiting = 0
), with_day AS (
    -- How many steps end before it is how many units it wants: the next one covers it, if there is one.
    SELECT l.*, k.lead_days AS days_now, k.release_at,
           k.days[CASE l.quantity_waiting WHEN 0 THEN 1 ELSE 1 + width_bucket(l.wanted - 1, k.reached) END] AS day
    FROM in_line l JOIN known k USING (pool_id)
)
SELECT w.pool_id, w.order_id, w.line_no, w.quantity_waiting, w.wanted,
       (SELECT o.placed_at FROM orders o WHERE o.order_id = w.order_id) AS placed_at,
       w.promised_at, w.first_promised_at, w.lead_at, w.lead_days
FROM with_day w
WHERE CASE
    WHEN w.day IS NOT NULL THEN w.day IS DISTINCT FROM (w.promised_at AT TIME ZONE 'UTC')::date
    WHEN w.days_now IS NULL THEN w.promised_at IS NOT NULL
    ELSE (w.lead_days = w.days_now AND (greatest(w.lead_at, w.release_at) AT TIME ZONE 'UTC')::date = (w.promised_at AT TIME ZONE 'UTC')::date) IS NOT TRUE
END
ORDER BY w.pool_id, w.ranked_at, w.order_id, w.line_no
