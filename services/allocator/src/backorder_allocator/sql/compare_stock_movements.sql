-- Everything that changed on hand.
SELECT jsonb_build_array(p.sku, p.location, m.kind, m.document_id)::text COLLATE "C" AS key,
       (to_jsonb(m) - 'pool_id')::text AS content
FROM stock_movements m JOIN pools p USING (pool_id)
ORDER BY 1
