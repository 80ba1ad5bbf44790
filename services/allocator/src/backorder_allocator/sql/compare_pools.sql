-- Pools that somebody named, without what each database numbers by itself. The others are rows to lock and say nothing.
SELECT jsonb_build_array(sku, location)::text COLLATE "C" AS key, (to_jsonb(p) - '{pool_id,revision}'::text[])::text AS content
FROM pools p WHERE named
ORDER BY 1
