-- No event is told by two messages that were both accepted over one channel. Left out: copies that somebody wanted
-- (`resend --again`), and tries of which nobody knew whether they were accepted, where saying it twice is the rule.
SELECT
    count(*)::integer AS checked,
    (count(*) FILTER (WHERE messages > 1))::integer AS broken,
    (array_agg(format('%s of order %s was told %s times by %s', event_id, order_id, messages, channel))
        FILTER (WHERE messages > 1))[:5] AS examples,
    (array_agg(order_id) FILTER (WHERE messages > 1))[1] AS order_id
FROM (
    SELECT about.event_id, messages.order_id, deliveries.channel, count(*) AS messages
    FROM messages
    JOIN deliveries ON deliveries.message_id = messages.message_id AND deliveries.state = 'sent'
    CROSS JOIN LATERAL unnest(messages.about) AS about (event_id)
    WHERE deliveries.in_doubt = 0
        AND NOT EXISTS (SELECT FROM interventions WHERE interventions.message_id = messages.message_id)
    GROUP BY about.event_id, messages.order_id, deliveries.channel
) AS compared
