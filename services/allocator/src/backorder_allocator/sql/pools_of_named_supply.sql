-- Where units of a supply are still to come, by its id or by its id, a slash and one SKU of it. $1 that text.
SELECT DISTINCT p.sku, p.location
FROM supplies s JOIN pools p USING (pool_id)
WHERE s.to_come > 0 AND (s.supply_id = $1 OR s.supply_id || '/' || s.sku = $1)
