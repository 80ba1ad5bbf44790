-- How far supplies are. $1 SKUs, $2 supply ids.
SELECT s.sku, s.supply_id, s.revision
FROM supplies s JOIN unnest($1::text[], $2::text[]) AS n (sku, supply_id) USING (sku, supply_id)
