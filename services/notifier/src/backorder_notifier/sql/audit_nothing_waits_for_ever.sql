-- Undecided news of an order whose customer is known has a time when it is decided on.
SELECT
    count(*)::integer AS checked,
    (count(*) FILTER (WHERE orders.tell_at IS NULL))::integer AS broken,
    (array_agg(format('%s of order %s waits for nothing', updates.event_id, updates.order_id))
        FILTER (WHERE orders.tell_at IS NULL))[:5] AS examples,
    (array_agg(updates.order_id) FILTER (WHERE orders.tell_at IS NULL))[1] AS order_id
FROM updates
JOIN orders ON orders.order_id = updates.order_id
WHERE updates.state = 'pending' AND orders.known_at IS NOT NULL
