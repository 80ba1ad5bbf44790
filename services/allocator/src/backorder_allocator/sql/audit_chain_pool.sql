-- A pool's names, and what changed its stock last. $1 id, or null where it is named by $2 SKU and $3 location (null: any).
SELECT p.sku, p.location,
       ARRAY(
           SELECT format('%s %s: %s units, by message %s', m.kind, m.document_id, m.quantity, m.caused_by)
           FROM stock_movements m WHERE m.pool_id = p.pool_id ORDER BY m.moved_at DESC, m.document_id LIMIT 3
       ) AS movements
FROM pools p WHERE p.pool_id = $1 OR p.sku = $2 AND ($3::text IS NULL OR p.location = $3) ORDER BY p.pool_id LIMIT 1
