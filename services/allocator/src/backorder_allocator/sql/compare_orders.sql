-- Orders, those too that only a cancel or a shipment has named.
SELECT jsonb_build_array(order_id)::text COLLATE "C" AS key, to_jsonb(o)::text AS content FROM orders o
ORDER BY 1
