-- What is still to be published of an order goes on without gap to the last version it gave, and every end of a message has
-- given one.
SELECT
    count(*)::integer AS checked,
    (count(*) FILTER (WHERE is_broken))::integer AS broken,
    (array_agg(format('order %s: %s outcomes given, %s ends of messages, to publish %s to %s', order_id, outcome_version,
        ends, first_version, last_version)) FILTER (WHERE is_broken))[:5] AS examples,
    (array_agg(order_id) FILTER (WHERE is_broken))[1] AS order_id
FROM (
    SELECT
        orders.order_id, orders.outcome_version, settled.ends, unpublished.first_version, unpublished.last_version,
        coalesce(settled.ends, 0) > orders.outcome_version
        OR coalesce(unpublished.last_version <> orders.outcome_version, false)
        OR coalesce(unpublished.outcomes <> unpublished.last_version - unpublished.first_version + 1, false) AS is_broken
    FROM orders
    LEFT JOIN (
        SELECT order_id, count(*) AS ends
        FROM deliveries
        WHERE state IN ('sent', 'failed') OR (state = 'withheld' AND reason <> 'channel_not_chosen')
        GROUP BY order_id
    ) AS settled ON settled.order_id = orders.order_id
    LEFT JOIN (
        SELECT order_id, min(version) AS first_version, max(version) AS last_version, count(*) AS outcomes
        FROM outbox
        GROUP BY order_id
    ) AS unpublished ON unpublished.order_id = orders.order_id
    WHERE orders.outcome_version > 0 OR settled.ends > 0 OR unpublished.outcomes > 0
) AS compared
