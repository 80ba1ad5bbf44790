-- The promise of a line is the one last published; the first one ever never changes, and every change says what was
-- promised before, which is another calendar day (UTC).
WITH told AS (
    SELECT e.key AS order_id, e.version, e.type, v.line_no, v.promised_at, v.previous_promised_at, v.first_promised_at
    FROM events e CROSS JOIN LATERAL json_to_record(e.value::json)
        AS v (line_no integer, promised_at timestamptz, previous_promised_at timestamptz, first_promised_at timestamptz)
    WHERE e.topic = 'backorders' AND e.type IN ('BackorderCreated', 'PromiseChanged')
), in_turn AS (
    SELECT *, lag(promised_at) OVER before_it AS last_told,
           (array_agg(promised_at) FILTER (WHERE promised_at IS NOT NULL) OVER before_it)[1] AS first_told,
           lead(version) OVER before_it IS NULL AS is_last
    FROM told WINDOW before_it AS (PARTITION BY order_id, line_no ORDER BY version)
), found AS (
    SELECT previous_promised_at IS DISTINCT FROM last_told OR first_promised_at IS DISTINCT FROM first_told
           OR (promised_at AT TIME ZONE 'UTC')::date IS NOT DISTINCT FROM (last_told AT TIME ZONE 'UTC')::date AS broken,
           format('order %s line %s, version %s: from %s to %s, first %s; told before: %s, first %s', order_id, line_no, version,
                  previous_promised_at, promised_at, first_promised_at, last_told, first_told) AS what,
           jsonb_build_object('order_id', order_id, 'line_no', line_no) AS about
    FROM in_turn WHERE type = 'PromiseChanged'
    UNION ALL
    SELECT (l.promised_at, l.first_promised_at) IS DISTINCT FROM (t.promised_at, t.first_told) OR l.order_id IS NULL,
           format('order %s line %s: promised %s, first %s; told %s, first %s', order_id, line_no, l.promised_at, l.first_promised_at,
                  t.promised_at, t.first_told), jsonb_build_object('order_id', order_id, 'line_no', line_no)
    FROM lines l FULL JOIN (SELECT * FROM in_turn WHERE is_last) t USING (order_id, line_no)
)
SELECT count(*) AS checked, count(*) FILTER (WHERE broken) AS broken, (array_agg(what) FILTER (WHERE broken))[1:5] AS examples,
       (array_agg(about) FILTER (WHERE broken))[1] AS about
FROM found
