-- How far what is said of stock is. $1 text[] locations, $2 text[] SKUs.
SELECT availability.location, availability.sku, availability.epoch, availability.version
FROM unnest($1::text[], $2::text[]) AS named (location, sku)
JOIN availability ON availability.location = named.location AND availability.sku = named.sku
