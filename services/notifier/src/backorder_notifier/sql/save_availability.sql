-- What is in stock where: a later version replaces, a higher epoch starts anew. In key order, so that two batches can't
-- lock each other out.
-- One array a column: $1 location, $2 sku (sorted by both, distinct), $3 epoch, $4 version, $5 in_stock.
INSERT INTO availability (location, sku, epoch, version, in_stock)
SELECT batch.location, batch.sku, batch.epoch, batch.version, batch.in_stock
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::boolean[])
    AS batch (location, sku, epoch, version, in_stock)
ORDER BY batch.location COLLATE "C", batch.sku COLLATE "C"
ON CONFLICT (location, sku) DO UPDATE
SET epoch = excluded.epoch, version = excluded.version, in_stock = excluded.in_stock
WHERE (availability.epoch, availability.version) < (excluded.epoch, excluded.version)
