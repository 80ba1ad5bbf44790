-- The last versions of stock-alerts.
SELECT jsonb_build_array(sku)::text COLLATE "C" AS key, to_jsonb(a)::text AS content FROM alert_versions a
ORDER BY 1
