-- How many messages the customers of orders got since a time of their own (local midnight): sent, or on their way. What
-- went nowhere doesn't count, nor do messages about to be withdrawn. The customers are locked. Counted once for all orders
-- of a customer, who may have many.
-- One array a column: $1 text[] order ids, $2 text[] their customers, $3 timestamptz[] since; $4 uuid[] messages that
-- would be withdrawn.
WITH asked AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS batch (order_id, customer_id, since)
),
counted AS MATERIALIZED (
    SELECT customers.customer_id, customers.since, count(*)::integer AS messages
    FROM (SELECT DISTINCT customer_id, since FROM asked) AS customers
    JOIN messages ON messages.customer_id = customers.customer_id AND messages.composed_at >= customers.since
    WHERE messages.message_id <> ALL ($4::uuid[])
        AND EXISTS (
            SELECT FROM deliveries WHERE deliveries.message_id = messages.message_id AND deliveries.state IN ('due', 'sent')
        )
    GROUP BY customers.customer_id, customers.since
)
SELECT asked.order_id, counted.messages
FROM asked
JOIN counted ON counted.customer_id = asked.customer_id AND counted.since = asked.since
