-- Which of these are in stock.
-- One array a column: $1 text[] locations, $2 text[] SKUs.
SELECT availability.location, availability.sku
FROM unnest($1::text[], $2::text[]) AS asked (location, sku)
JOIN availability ON availability.location = asked.location AND availability.sku = asked.sku
WHERE availability.in_stock
