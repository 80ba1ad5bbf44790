-- Every event that was decided is told by a message, or has a reason that staff can read. What was decided before an
-- upgrade from single events to messages (0002) had other reasons, and messages that are not kept.
-- $1 text[] reasons that there are.
SELECT
    count(*)::integer AS checked,
    (count(*) FILTER (WHERE is_broken))::integer AS broken,
    (array_agg(format('%s is %s, %s', event_id, state, coalesce(reason, 'by no message')) ORDER BY ordinal)
        FILTER (WHERE is_broken))[:5] AS examples,
    (array_agg(order_id) FILTER (WHERE is_broken))[1] AS order_id
FROM (
    SELECT
        event_id, order_id, ordinal, state, reason,
        CASE
            WHEN state = 'told' THEN message_id IS NULL
            ELSE reason IS NULL OR NOT reason = ANY ($1::text[])
        END AS is_broken
    FROM updates
    WHERE state <> 'pending'
        AND decided_at >= coalesce((SELECT max(upgraded_at) FROM upgrades), '-infinity')
) AS compared
