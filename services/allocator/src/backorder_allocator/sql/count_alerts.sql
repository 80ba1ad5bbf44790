-- Takes versions of stock-alerts, in the order of the keys, after every other lock but the log's head.
-- $1 SKUs (sorted), $2 how many. Gives the last version before these.
WITH wanted AS (SELECT * FROM unnest($1::text[], $2::bigint[]) AS w (sku, versions))
INSERT INTO alert_versions AS a (sku, version)
SELECT sku, versions FROM wanted ORDER BY sku
ON CONFLICT (sku) DO UPDATE SET version = a.version + excluded.version
RETURNING a.sku, a.version
