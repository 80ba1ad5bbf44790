-- How far policies are. $1 SKUs.
SELECT sku, revision FROM policies WHERE sku = ANY ($1::text[])
