-- The units that a message tells of a line are the sums of the events it tells: begun to wait, lost, filled, cancelled,
-- refused. Units that were there and were cancelled are told by AllocationRevoked. Lost stock is told by BackorderCreated, or
-- by AllocationRevoked of the same cause where that was told in an earlier message.
WITH told AS (
    SELECT
        updates.message_id, updates.line_no, updates.event ->> 'type' AS type, updates.event ->> 'reason' AS reason,
        (updates.event ->> 'quantity')::bigint AS quantity, updates.caused_by,
        EXISTS (
            SELECT
            FROM updates AS companion
            JOIN messages AS before ON before.message_id = companion.message_id
            WHERE companion.order_id = updates.order_id
                AND companion.line_no = updates.line_no
                AND companion.caused_by = updates.caused_by
                AND companion.event_id <> updates.event_id
                AND companion.kind = 'allocation_revoked'
                AND companion.state = 'told'
                AND CASE
                    WHEN companion.event ->> 'type' = 'BackorderCreated' THEN before.position <= messages.position
                    ELSE before.position < messages.position
                END
        ) AS companion_tells_it
    FROM updates
    JOIN messages ON messages.message_id = updates.message_id
    WHERE updates.state = 'told' AND updates.topic IN ('backorders', 'allocations')
),
sums AS (
    SELECT
        message_id, line_no,
        coalesce(sum(quantity) FILTER (WHERE is_created AND NOT (reason = 'stock_lost' AND companion_tells_it)), 0) AS created,
        coalesce(sum(quantity) FILTER (WHERE is_created AND reason = 'stock_lost' AND NOT companion_tells_it), 0) AS lost,
        coalesce(sum(quantity) FILTER (WHERE type = 'BackorderFilled'), 0) AS filled,
        coalesce(sum(quantity) FILTER (WHERE type = 'BackorderCancelled' OR is_revoked), 0) AS cancelled,
        coalesce(sum(quantity) FILTER (WHERE type = 'BackorderRejected'), 0) AS rejected
    FROM (
        SELECT
            *,
            type = 'BackorderCreated' OR (type = 'AllocationRevoked' AND reason = 'stock_lost') AS is_created,
            type = 'AllocationRevoked' AND reason = 'cancelled' AS is_revoked
        FROM told
    ) AS told
    GROUP BY message_id, line_no
),
lines AS (
    SELECT
        messages.message_id, messages.order_id, (line ->> 'line_no')::integer AS line_no,
        coalesce((line ->> 'created')::bigint, 0) AS created, coalesce((line ->> 'lost')::bigint, 0) AS lost,
        coalesce((line ->> 'filled')::bigint, 0) AS filled, coalesce((line ->> 'cancelled')::bigint, 0) AS cancelled,
        coalesce((line ->> 'rejected')::bigint, 0) AS rejected
    FROM messages
    CROSS JOIN LATERAL jsonb_array_elements(messages.content -> 'lines') AS lines (line)
    WHERE messages.message_id IN (SELECT told.message_id FROM told)
),
compared AS (
    SELECT
        coalesce(lines.message_id, sums.message_id) AS message_id, coalesce(lines.line_no, sums.line_no) AS line_no,
        lines.order_id,
        CASE
            WHEN lines.message_id IS NULL THEN '(nothing)'
            ELSE ROW (lines.created, lines.lost, lines.filled, lines.cancelled, lines.rejected)::text
        END AS said,
        ROW (
            coalesce(sums.created, 0), coalesce(sums.lost, 0), coalesce(sums.filled, 0), coalesce(sums.cancelled, 0),
            coalesce(sums.rejected, 0)
        )::text AS summed
    FROM lines
    FULL JOIN sums ON sums.message_id = lines.message_id AND sums.line_no = lines.line_no
)
SELECT
    count(*)::integer AS checked,
    (count(*) FILTER (WHERE said <> summed))::integer AS broken,
    (
        array_agg(
            format('message %s line %s (order %s) says %s, its events %s (created, lost, filled, cancelled, rejected)',
                message_id, line_no, order_id, said, summed)
        ) FILTER (WHERE said <> summed)
    )[:5] AS examples,
    (array_agg(order_id) FILTER (WHERE said <> summed))[1] AS order_id
FROM compared
