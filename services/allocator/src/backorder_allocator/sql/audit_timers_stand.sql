-- Whatever happens by itself has its timer, and no timer is left over: for a supply that is to come and was not said to be
-- overdue, for a pre-order that is not over, for a complete order that is to become split.
WITH wanted AS (
    SELECT 'overdue' AS kind, sku AS subject, supply_id, expected_at AS due_at FROM supplies WHERE to_come > 0 AND NOT overdue
    UNION ALL
    SELECT 'release', sku, '', release_at FROM policies WHERE backorders = 'preorder' AND NOT preorder_over
    UNION ALL
    SELECT 'escalate', order_id, '', escalates_at FROM orders WHERE escalates_at IS NOT NULL AND NOT escalated
), found AS (
    SELECT w.due_at IS DISTINCT FROM t.due_at AS broken,
           format('%s of %s: should be due at %s, its timer says %s', kind, concat_ws(' ', nullif(supply_id, ''), subject),
                  coalesce(w.due_at::text, 'no time'), coalesce(t.due_at::text, 'nothing')) AS what,
           jsonb_build_object(CASE kind WHEN 'escalate' THEN 'order_id' ELSE 'sku' END, subject) AS about
    FROM wanted w FULL JOIN timers t USING (kind, subject, supply_id)
)
SELECT count(*) AS checked, count(*) FILTER (WHERE broken) AS broken, (array_agg(what) FILTER (WHERE broken))[1:5] AS examples,
       (array_agg(about) FILTER (WHERE broken))[1] AS about
FROM found
