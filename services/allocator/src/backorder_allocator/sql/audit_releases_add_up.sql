-- What fulfilment was told of a line, released less revoked, is what the line counts as released.
WITH told AS (
    SELECT e.key AS order_id, v.line_no, v.quantity
    FROM events e CROSS JOIN LATERAL json_to_recordset(e.value::json -> 'lines') AS v (line_no integer, quantity bigint)
    WHERE e.topic = 'allocations' AND e.type = 'AllocationReleased'
    UNION ALL
    SELECT e.key, v.line_no, -v.quantity
    FROM events e CROSS JOIN LATERAL json_to_record(e.value::json) AS v (line_no integer, quantity bigint, release_no integer)
    WHERE e.topic = 'allocations' AND e.type = 'AllocationRevoked' AND v.release_no IS NOT NULL
), sums AS (SELECT order_id, line_no, sum(quantity) AS units FROM told GROUP BY order_id, line_no),
found AS (
    SELECT l.quantity_released IS DISTINCT FROM coalesce(s.units, 0) AS broken,
           format('order %s line %s: events release %s units, the line counts %s', order_id, line_no, s.units, l.quantity_released)
               AS what
    FROM lines l FULL JOIN sums s USING (order_id, line_no)
)
SELECT count(*) AS checked, count(*) FILTER (WHERE broken) AS broken, (array_agg(what) FILTER (WHERE broken))[1:5] AS examples FROM found
