-- What SKUs are called. One without title is left out.
-- $1 text[] SKUs.
SELECT sku, title FROM products WHERE sku = ANY ($1::text[]) AND title IS NOT NULL
