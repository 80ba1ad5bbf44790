-- What shipments say of a line is what it counts as shipped; those that wait for their order are not booked yet.
WITH sums AS (
    SELECT f.order_id, v.line_no, sum(v.quantity) AS units
    FROM fulfilments f CROSS JOIN LATERAL jsonb_to_recordset(f.body -> 'lines') AS v (line_no integer, quantity bigint)
    WHERE f.kind = 'shipped' AND NOT f.waits
    GROUP BY f.order_id, v.line_no
), found AS (
    SELECT l.quantity_shipped IS DISTINCT FROM coalesce(s.units, 0) AS broken,
           format('order %s line %s: shipments have %s units, the line counts %s', order_id, line_no, coalesce(s.units, 0),
                  l.quantity_shipped) AS what,
           jsonb_build_object('order_id', order_id, 'line_no', line_no) AS about
    FROM lines l FULL JOIN sums s USING (order_id, line_no)
)
SELECT count(*) AS checked, count(*) FILTER (WHERE broken) AS broken, (array_agg(what) FILTER (WHERE broken))[1:5] AS examples,
       (array_agg(about) FILTER (WHERE broken))[1] AS about
FROM found
