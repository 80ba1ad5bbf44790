-- Since NOTIFIER_START_AT nothing was told that happened before.
-- $1 timestamptz start, or null.
SELECT
    count(*)::integer AS checked,
    (count(*) FILTER (WHERE occurred_at < $1::timestamptz))::integer AS broken,
    (array_agg(format('%s of order %s happened at %s', event_id, order_id, occurred_at))
        FILTER (WHERE occurred_at < $1::timestamptz))[:5] AS examples,
    (array_agg(order_id) FILTER (WHERE occurred_at < $1::timestamptz))[1] AS order_id
FROM updates
WHERE state = 'told' AND message_id IS NOT NULL AND decided_at >= $1::timestamptz
