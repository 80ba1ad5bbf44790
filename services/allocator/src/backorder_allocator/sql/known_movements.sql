-- Which receipts, adjustments and counts were taken before. $1 pool ids (locked), $2 kinds, $3 document ids.
WITH named AS (SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[]) AS n (pool_id, kind, document_id))
SELECT m.pool_id, m.kind, m.document_id, m.fingerprint
FROM stock_movements m
JOIN named n ON m.pool_id = n.pool_id AND m.kind = n.kind AND m.document_id = n.document_id
