-- Which receipts, adjustments and counts there are. $1 SKUs, $2 locations, $3 kinds, $4 document ids.
SELECT p.sku, p.location, m.kind, m.document_id, m.fingerprint
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS n (sku, location, kind, document_id)
CROSS JOIN LATERAL (SELECT * FROM pools p WHERE p.sku = n.sku AND p.location = n.location OFFSET 0) p
CROSS JOIN LATERAL (
    SELECT * FROM stock_movements m WHERE m.pool_id = p.pool_id AND m.kind = n.kind AND m.document_id = n.document_id OFFSET 0
) m
