-- Writes the newest policies of SKUs, under lock_policies. $1 SKUs, $2 revisions, $3 titles, $4 to $9 rules, $10 lead times,
-- $11 substitutes (each a JSON array, since rows of arrays can't be unnested), $12 whether the pre-order is over,
-- $13 fingerprints, $14 now of each message, $15 its id.
INSERT INTO policies (sku, revision, title, backorders, waiting_limit, max_wait_days, safety_stock, low_stock_at, release_at,
                      default_lead_time_days, substitutes, preorder_over, fingerprint, changed_at, caused_by)
SELECT sku, revision, title, backorders, waiting_limit, max_wait_days, safety_stock, low_stock_at, release_at,
       default_lead_time_days,
       ARRAY(SELECT each FROM json_array_elements_text(substitutes::json) WITH ORDINALITY AS s (each, at) ORDER BY at),
       preorder_over, fingerprint, changed_at, caused_by
FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::integer[], $7::bigint[], $8::bigint[],
            $9::timestamptz[], $10::integer[], $11::text[], $12::boolean[], $13::bytea[], $14::timestamptz[], $15::text[])
    AS c (sku, revision, title, backorders, waiting_limit, max_wait_days, safety_stock, low_stock_at, release_at,
          default_lead_time_days, substitutes, preorder_over, fingerprint, changed_at, caused_by)
ON CONFLICT (sku) DO UPDATE
SET revision = excluded.revision, title = excluded.title, backorders = excluded.backorders,
    waiting_limit = excluded.waiting_limit, max_wait_days = excluded.max_wait_days, safety_stock = excluded.safety_stock,
    low_stock_at = excluded.low_stock_at, release_at = excluded.release_at,
    default_lead_time_days = excluded.default_lead_time_days, substitutes = excluded.substitutes,
    preorder_over = excluded.preorder_over, fingerprint = excluded.fingerprint, changed_at = excluded.changed_at,
    caused_by = excluded.caused_by
