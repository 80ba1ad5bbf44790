-- What waits by pool and day.
SELECT jsonb_build_array(p.sku, p.location, q.day)::text COLLATE "C" AS key, (to_jsonb(q) - 'pool_id')::text AS content
FROM queue_days q JOIN pools p USING (pool_id)
ORDER BY 1
