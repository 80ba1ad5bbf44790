-- Orders that were known when their customer was forgotten have no contact data.
SELECT
    count(*)::integer AS checked,
    (count(*) FILTER (WHERE is_broken))::integer AS broken,
    (array_agg(format('order %s still has contact data', order_id)) FILTER (WHERE is_broken))[:5] AS examples,
    (array_agg(order_id) FILTER (WHERE is_broken))[1] AS order_id
FROM (
    SELECT
        orders.order_id,
        coalesce(orders.email, orders.phone, orders.name, orders.order_url) IS NOT NULL AS is_broken
    FROM orders
    JOIN customers ON customers.customer_id = orders.customer_id
    WHERE orders.known_at <= customers.forgotten_at
) AS compared
