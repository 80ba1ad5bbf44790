-- Lines of orders, with the names of their pools.
SELECT jsonb_build_array(l.order_id, l.line_no)::text COLLATE "C" AS key,
       (to_jsonb(l) - 'pool_id' || jsonb_build_object('sku', p.sku, 'location', p.location))::text AS content
FROM lines l JOIN pools p USING (pool_id)
ORDER BY 1
