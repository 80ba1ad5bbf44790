-- How far products are. $1 text[] SKUs.
SELECT sku, revision FROM products WHERE sku = ANY ($1::text[])
