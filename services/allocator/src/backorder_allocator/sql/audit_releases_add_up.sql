-- What fulfilment was told to ship of a line, released less revoked, and what it shipped without being told, is what the
-- line counts as released or shipped: units that were never told are held.
WITH told AS (
    SELECT e.key AS order_id, v.line_no, v.quantity
    FROM events e CROSS JOIN LATERAL json_to_recordset(e.value::json -> 'lines') AS v (line_no integer, quantity bigint)
    WHERE e.topic = 'allocations' AND e.type = 'AllocationReleased'
    UNION ALL
    SELECT e.key, v.line_no, -v.quantity
    FROM events e CROSS JOIN LATERAL json_to_record(e.value::json) AS v (line_no integer, quantity bigint, release_no integer)
    WHERE e.topic = 'allocations' AND e.type = 'AllocationRevoked' AND v.release_no IS NOT NULL
    UNION ALL
    SELECT v.order_id, v.line_no, v.quantity
    FROM events e CROSS JOIN LATERAL json_to_record(e.value::json) AS v (order_id text, line_no integer, quantity bigint)
    WHERE e.topic = 'stock-alerts' AND e.type = 'ShipmentMismatch'
), sums AS (SELECT order_id, line_no, sum(quantity) AS units FROM told GROUP BY order_id, line_no),
found AS (
    SELECT l.quantity_released + l.quantity_shipped IS DISTINCT FROM coalesce(s.units, 0) AS broken,
           format('order %s line %s: events say %s units, the line counts %s as released and %s as shipped', order_id, line_no,
                  coalesce(s.units, 0), l.quantity_released, l.quantity_shipped) AS what,
           jsonb_build_object('order_id', order_id, 'line_no', line_no) AS about
    FROM lines l FULL JOIN sums s USING (order_id, line_no)
)
SELECT count(*) AS checked, count(*) FILTER (WHERE broken) AS broken, (array_agg(what) FILTER (WHERE broken))[1:5] AS examples,
       (array_agg(about) FILTER (WHERE broken))[1] AS about
FROM found
