-- Writes the promises of lines. Their pools and orders are locked. $1 order ids, $2 line numbers, $3 promised, $4 first
-- promised, $5 lead time dates, $6 days that these were computed from.
WITH planned AS (
    SELECT * FROM unnest($1::text[], $2::integer[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[], $6::integer[])
        AS p (order_id, line_no, promised_at, first_promised_at, lead_at, lead_days)
)
UPDATE lines l
SET promised_at = p.promised_at, first_promised_at = p.first_promised_at, lead_at = p.lead_at, lead_days = p.lead_days
FROM planned p WHERE l.order_id = p.order_id AND l.line_no = p.line_no
