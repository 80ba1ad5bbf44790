-- How each supplier keeps its dates. A receipt that names a supply is one observation: its days after the date announced
-- first. Supplies that are late and not all here yet are counted beside. $1 now.
WITH receipts AS (
    SELECT s.supplier, greatest(0, extract(epoch FROM m.moved_at - s.first_expected_at) / 86400)::float8 AS days_late
    FROM stock_movements m JOIN pools p USING (pool_id)
    JOIN supplies s ON s.sku = p.sku AND s.supply_id = m.supply_id
    WHERE m.kind = 'received' AND s.first_expected_at IS NOT NULL
), per_receipt AS (
    SELECT supplier, count(*) AS receipts, count(*) FILTER (WHERE days_late = 0) AS on_time, avg(days_late) AS mean,
           percentile_disc(0.9) WITHIN GROUP (ORDER BY days_late) AS p90
    FROM receipts GROUP BY supplier
), per_supply AS (
    SELECT supplier, count(*) AS supplies, count(*) FILTER (WHERE cancelled) AS cancelled,
           sum(quantity)::bigint AS announced, sum(received)::bigint AS received,
           count(*) FILTER (WHERE is_late) AS overdue, coalesce(sum(to_come) FILTER (WHERE is_late), 0)::bigint AS overdue_units,
           max(extract(epoch FROM $1::timestamptz - first_expected_at) / 86400) FILTER (WHERE is_late)::float8 AS longest
    FROM (SELECT *, to_come > 0 AND (overdue OR expected_at < $1::timestamptz) AS is_late FROM supplies) s
    WHERE supplier IS NOT NULL GROUP BY supplier
)
SELECT s.supplier, s.supplies, s.cancelled, s.announced AS units_announced, s.received AS units_received,
       coalesce(r.receipts, 0) AS receipts, round((r.on_time::numeric / r.receipts), 4)::float8 AS on_time,
       round(r.mean::numeric, 2)::float8 AS mean_days_late, round(r.p90::numeric, 2)::float8 AS p90_days_late,
       s.overdue AS overdue_supplies, s.overdue_units, round(s.longest::numeric, 2)::float8 AS longest_overdue_days
FROM per_supply s LEFT JOIN per_receipt r USING (supplier)
ORDER BY s.supplier
