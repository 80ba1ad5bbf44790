-- The lines that wait in pools and would have another date if something happened, in rank order: those that would change by it
-- themselves (`changes`), and those whose calendar day (UTC) before and after differ. Each with the steps of its pool, from 1,
-- which cover it before and after: one more than there are where none does; then the date hangs on the line, not on its place.
-- No locks: in one snapshot with the pools.
-- For each pool: $1 its id (null: it is not there yet), $2 its steps as they are, [[units], [days]] as JSON: up to so many
-- units are promised that day; $3 the steps as they would be, $4 whether the lead time gives a date behind the last one.
-- For each line that would change: $5 the place of its pool in $1, from 1, $6 ranked at, $7 order id, $8 line number, $9 how
-- many more of its units would wait; 0 for one that waits as before.
WITH asked AS MATERIALIZED (
    SELECT place, pool_id, has_lead_time,
           ARRAY (SELECT jsonb_array_elements_text(before -> 0)::bigint) AS reached_before,
           ARRAY (SELECT jsonb_array_elements_text(before -> 1)::date) AS days_before,
           ARRAY (SELECT jsonb_array_elements_text(after -> 0)::bigint) AS reached_after,
           ARRAY (SELECT jsonb_array_elements_text(after -> 1)::date) AS days_after
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::boolean[])
             WITH ORDINALITY AS a (pool_id, before_text, after_text, has_lead_time, place),
         LATERAL (SELECT before_text::jsonb AS before, after_text::jsonb AS after) s
), changed AS (
    SELECT place, ranked_at, order_id COLLATE "C" AS order_id, line_no, more
    FROM unnest($5::integer[], $6::timestamptz[], $7::text[], $8::integer[], $9::integer[])
             AS c (place, ranked_at, order_id, line_no, more)
), with_steps AS (
    -- How many steps end before it is how many units it wants: the next one covers it, if there is one.
    SELECT a.place, a.has_lead_time, a.days_before, a.days_after, q.*,
           1 + width_bucket(q.wanted_before - 1, a.reached_before) AS step_before,
           1 + width_bucket(q.wanted_after - 1, a.reached_after) AS step_after
    FROM asked a
    CROSS JOIN LATERAL (
        -- A line that changes is there twice, as it is and with what it has more. Both have one rank, so the sums, which
        -- reach over all of the same rank, are the same for both.
        SELECT u.*, sum(u.waiting) OVER by_rank AS wanted_before, sum(u.waiting + u.more) OVER by_rank AS wanted_after
        FROM (
            SELECT ranked_at, order_id, line_no, false AS changes, quantity_waiting AS waiting, 0 AS more, quantity_ordered,
                   quantity_allocated, quantity_rejected, quantity_released, promised_at, lead_at, lead_days
            FROM lines WHERE pool_id = a.pool_id AND quantity_waiting > 0
            UNION ALL
            SELECT ranked_at, order_id, line_no, true, 0, more, NULL, NULL, NULL, NULL, NULL, NULL, NULL
            FROM changed c WHERE c.place = a.place
        ) u
        WINDOW by_rank AS (ORDER BY u.ranked_at, u.order_id, u.line_no)
    ) q
)
SELECT w.place, w.order_id, w.line_no, w.changes, w.step_before, w.step_after, w.quantity_ordered,
       w.quantity_allocated, w.waiting AS quantity_waiting, w.quantity_rejected, w.quantity_released, w.promised_at,
       w.lead_at, w.lead_days,
       -- Only a date by lead time needs it, which nearly no line has.
       CASE WHEN w.has_lead_time AND NOT w.changes
                 AND (w.step_before > cardinality(w.days_before) OR w.step_after > cardinality(w.days_after))
            THEN (SELECT o.placed_at FROM orders o WHERE o.order_id = w.order_id) END AS placed_at
FROM with_steps w
WHERE w.changes OR w.days_before[w.step_before] IS DISTINCT FROM w.days_after[w.step_after]
ORDER BY w.place, w.ranked_at, w.order_id, w.line_no
