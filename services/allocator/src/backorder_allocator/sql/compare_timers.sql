-- What will happen by itself.
SELECT jsonb_build_array(kind, subject, supply_id)::text COLLATE "C" AS key, to_jsonb(t)::text AS content FROM timers t
ORDER BY 1
