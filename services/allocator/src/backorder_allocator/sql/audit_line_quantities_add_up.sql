-- Invariant 2: ordered = allocated + waiting + cancelled + rejected, shipped and released are allocated; releases add up
-- and were numbered by their order; a line is ranked as its order is.
WITH found AS (
    SELECT l.quantity_ordered <> l.quantity_allocated + l.quantity_waiting + l.quantity_cancelled + l.quantity_rejected
           OR l.quantity_shipped + l.quantity_released > l.quantity_allocated
           OR l.quantity_released <> coalesce(r.units, 0)
           OR coalesce(r.last, 0) > o.release_no
           OR o.placed_at IS NULL OR l.ranked_at IS DISTINCT FROM o.ranked_at AS broken,
           format('order %s line %s', l.order_id, l.line_no) AS what,
           jsonb_build_object('order_id', l.order_id, 'line_no', l.line_no) AS about
    FROM lines l LEFT JOIN orders o USING (order_id)
    LEFT JOIN LATERAL (
        SELECT sum((each ->> 1)::bigint) AS units, max((each ->> 0)::bigint) AS last FROM jsonb_array_elements(l.releases) each
    ) r ON true
)
SELECT count(*) AS checked, count(*) FILTER (WHERE broken) AS broken, (array_agg(what) FILTER (WHERE broken))[1:5] AS examples,
       (array_agg(about) FILTER (WHERE broken))[1] AS about
FROM found
