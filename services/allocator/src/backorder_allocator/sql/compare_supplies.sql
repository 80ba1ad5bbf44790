-- Supplies, with the locations of their pools.
SELECT jsonb_build_array(s.supply_id, s.sku)::text COLLATE "C" AS key,
       (to_jsonb(s) - 'pool_id' || jsonb_build_object('location', p.location))::text AS content
FROM supplies s LEFT JOIN pools p USING (pool_id)
ORDER BY 1
