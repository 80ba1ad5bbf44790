-- Invariant 2: a line of which nothing is open any more is told nothing more. What was cancelled or refused as a whole ends with
-- the event that said so; what was shipped as a whole has no event behind its last shipment. Shipments that came before
-- their order are booked with it, whenever that was, and are left out.
WITH told AS (
    SELECT e.key AS order_id, v.line_no, e.type, v.reason, j.number, j.first_seq + e.ordinal AS seq
    FROM events e JOIN journal j USING (batch_id)
    CROSS JOIN LATERAL json_to_record(e.value::json) AS v (line_no integer, reason text)
    WHERE e.topic IN ('backorders', 'allocations') AND v.line_no IS NOT NULL
    UNION ALL
    SELECT e.key, v.line_no, e.type, NULL, j.number, j.first_seq + e.ordinal
    FROM events e JOIN journal j USING (batch_id)
    CROSS JOIN LATERAL json_to_recordset(e.value::json -> 'lines') AS v (line_no integer)
    WHERE e.topic = 'allocations' AND e.type = 'AllocationReleased'
), last_told AS (
    SELECT DISTINCT ON (order_id, line_no) * FROM told ORDER BY order_id, line_no, seq DESC
), shipped AS (
    SELECT f.order_id, v.line_no, max(j.number) AS number, bool_or(f.early) AS early
    FROM fulfilments f LEFT JOIN journal j USING (batch_id)
    CROSS JOIN LATERAL jsonb_to_recordset(f.body -> 'lines') AS v (line_no integer)
    WHERE f.kind = 'shipped' AND NOT f.waits
    GROUP BY f.order_id, v.line_no
), found AS (
    SELECT CASE
               WHEN l.quantity_shipped = l.quantity_ordered THEN t.number > s.number
               ELSE t.type NOT IN ('BackorderCancelled', 'BackorderRejected') AND (t.type, t.reason) IS DISTINCT FROM ('AllocationRevoked', 'cancelled')
           END AS broken,
           format('order %s line %s is closed, and was told %s after that (seq %s)', order_id, line_no, t.type, t.seq) AS what,
           jsonb_build_object('seq', t.seq) AS about
    FROM lines l JOIN last_told t USING (order_id, line_no) LEFT JOIN shipped s USING (order_id, line_no)
    WHERE l.quantity_cancelled + l.quantity_rejected = l.quantity_ordered
       OR l.quantity_shipped = l.quantity_ordered AND NOT s.early
)
SELECT count(*) AS checked, count(*) FILTER (WHERE broken) AS broken, (array_agg(what) FILTER (WHERE broken))[1:5] AS examples,
       (array_agg(about) FILTER (WHERE broken))[1] AS about
FROM found
