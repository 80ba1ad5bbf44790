-- Counts events of orders on `backorders`. The orders are locked. $1 order ids, $2 their newest version.
WITH told AS (SELECT * FROM unnest($1::text[], $2::bigint[]) AS t (order_id, version))
UPDATE orders o SET backorders_version = t.version FROM told t WHERE o.order_id = t.order_id
