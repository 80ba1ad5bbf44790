-- Makes the pools that nobody named before, so that there is a row to lock. $1 SKUs, $2 locations.
-- Runs on its own, before the batch's transaction: an empty pool harms nobody, and no batch waits for another's.
WITH named AS (SELECT * FROM unnest($1::text[], $2::text[]) AS n (sku, location))
INSERT INTO pools (sku, location)
SELECT sku, location FROM named ORDER BY sku, location
ON CONFLICT DO NOTHING
