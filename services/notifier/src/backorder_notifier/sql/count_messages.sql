-- How many messages the customers of orders got since a time of their own (local midnight): sent, or on their way. What
-- went nowhere doesn't count, nor do messages about to be withdrawn. The customers are locked.
-- One array a column: $1 text[] order ids, $2 text[] their customers, $3 timestamptz[] since; $4 uuid[] messages that
-- would be withdrawn.
SELECT asked.order_id, count(*)::integer AS messages
FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS asked (order_id, customer_id, since)
JOIN messages ON messages.customer_id = asked.customer_id AND messages.composed_at >= asked.since
WHERE messages.message_id <> ALL ($4::uuid[])
    AND EXISTS (
        SELECT FROM deliveries WHERE deliveries.message_id = messages.message_id AND deliveries.state IN ('due', 'sent')
    )
GROUP BY asked.order_id
