-- Cancels that were taken.
SELECT jsonb_build_array(id)::text COLLATE "C" AS key, to_jsonb(c)::text AS content FROM cancels c
ORDER BY 1
