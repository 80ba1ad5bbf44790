-- What shops were told to be rejected of a line, less what was shipped of it all the same, is what the line counts.
WITH told AS (
    SELECT e.key AS order_id, v.line_no, v.quantity
    FROM events e CROSS JOIN LATERAL json_to_record(e.value::json) AS v (line_no integer, quantity bigint)
    WHERE e.topic = 'backorders' AND e.type = 'BackorderRejected'
    UNION ALL
    SELECT v.order_id, v.line_no, -v.quantity
    FROM events e CROSS JOIN LATERAL json_to_record(e.value::json)
        AS v (order_id text, line_no integer, quantity bigint, reason text)
    WHERE e.topic = 'stock-alerts' AND e.type = 'ShipmentMismatch' AND v.reason = 'rejected'
), sums AS (SELECT order_id, line_no, sum(quantity) AS units FROM told GROUP BY order_id, line_no),
found AS (
    SELECT l.quantity_rejected IS DISTINCT FROM coalesce(s.units, 0) AS broken,
           format('order %s line %s: events reject %s units, the line counts %s', order_id, line_no, coalesce(s.units, 0),
                  l.quantity_rejected) AS what,
           jsonb_build_object('order_id', order_id, 'line_no', line_no) AS about
    FROM lines l FULL JOIN sums s USING (order_id, line_no)
)
SELECT count(*) AS checked, count(*) FILTER (WHERE broken) AS broken, (array_agg(what) FILTER (WHERE broken))[1:5] AS examples,
       (array_agg(about) FILTER (WHERE broken))[1] AS about
FROM found
