-- What SKUs are called: a higher revision replaces. In sku order, so that two batches can't lock each other out.
-- One array a column: $1 sku (sorted, distinct), $2 revision, $3 title.
INSERT INTO products (sku, revision, title)
SELECT batch.sku, batch.revision, batch.title
FROM unnest($1::text[], $2::bigint[], $3::text[]) AS batch (sku, revision, title)
ORDER BY batch.sku COLLATE "C"
ON CONFLICT (sku) DO UPDATE SET revision = excluded.revision, title = excluded.title
WHERE products.revision < excluded.revision
