-- Writes lines that exist. Their pools and orders are locked. $1 order ids, $2 line numbers, then what can change.
WITH changed AS (
    SELECT * FROM unnest($1::text[], $2::integer[], $3::integer[], $4::integer[], $5::integer[], $6::integer[], $7::integer[],
                         $8::integer[], $9::text[], $10::timestamptz[], $11::timestamptz[], $12::timestamptz[], $13::integer[])
        AS c (order_id, line_no, allocated, waiting, cancelled, rejected, shipped, released, releases, promised_at,
              first_promised_at, lead_at, lead_days)
)
UPDATE lines l
SET quantity_allocated = c.allocated, quantity_waiting = c.waiting, quantity_cancelled = c.cancelled,
    quantity_rejected = c.rejected, quantity_shipped = c.shipped, quantity_released = c.released, releases = c.releases::jsonb,
    promised_at = c.promised_at, first_promised_at = c.first_promised_at, lead_at = c.lead_at, lead_days = c.lead_days
FROM changed c WHERE l.order_id = c.order_id AND l.line_no = c.line_no
