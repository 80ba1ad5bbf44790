-- The newest policies.
SELECT jsonb_build_array(sku)::text COLLATE "C" AS key, to_jsonb(p)::text AS content FROM policies p
ORDER BY 1
