-- Invariant 11: a receipt or a cancel takes no units from others, and what a cancel takes is of the order it names.
WITH taken AS (
    SELECT e.key, e.type, e.caused_by, e.value::json ->> 'reason' AS reason
    FROM events e
    WHERE e.type = 'BackorderCancelled' OR e.type IN ('AllocationRevoked', 'BackorderCreated')
), takes AS (
    SELECT caused_by AS id FROM stock_movements WHERE kind <> 'received'
    UNION SELECT body ->> 'id' FROM fulfilments WHERE kind = 'shipped'
), gives AS (
    SELECT caused_by AS id FROM stock_movements WHERE kind = 'received'
    UNION SELECT id FROM cancels
), found AS (
    SELECT CASE
               WHEN type = 'BackorderCancelled' OR reason = 'cancelled'
                   THEN NOT EXISTS (SELECT FROM cancels c WHERE c.id = t.caused_by AND c.order_id = t.key)
               -- Ids are of each sender's own making: one that names something that takes, too, may be that.
               ELSE t.caused_by IN (SELECT id FROM gives) AND t.caused_by NOT IN (SELECT id FROM takes)
           END AS broken,
           format('order %s: %s (%s), caused by %s', key, type, reason, caused_by) AS what,
           jsonb_build_object('order_id', key) AS about
    FROM taken t WHERE type <> 'BackorderCreated' OR reason = 'stock_lost'
)
SELECT count(*) AS checked, count(*) FILTER (WHERE broken) AS broken, (array_agg(what) FILTER (WHERE broken))[1:5] AS examples,
       (array_agg(about) FILTER (WHERE broken))[1] AS about
FROM found
