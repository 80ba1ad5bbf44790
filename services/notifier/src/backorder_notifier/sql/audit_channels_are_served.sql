-- Every message has a delivery for each channel, if only to say why not: of those made since the channel is in use. The
-- copies that `resend --again` makes go where somebody wanted them.
-- $1 text[] channels.
WITH channels AS (
    SELECT channel, (SELECT min(recorded_at) FROM deliveries WHERE deliveries.channel = names.channel) AS since
    FROM unnest($1::text[]) AS names (channel)
)
SELECT
    count(*)::integer AS checked,
    (count(*) FILTER (WHERE is_broken))::integer AS broken,
    (array_agg(format('message %s of order %s has nothing for %s', message_id, order_id, channel))
        FILTER (WHERE is_broken))[:5] AS examples,
    (array_agg(order_id) FILTER (WHERE is_broken))[1] AS order_id
FROM (
    SELECT
        messages.message_id, messages.order_id, channels.channel,
        NOT EXISTS (
            SELECT
            FROM deliveries
            WHERE deliveries.message_id = messages.message_id AND deliveries.channel = channels.channel
        ) AS is_broken
    FROM messages
    JOIN channels ON messages.composed_at >= channels.since
    WHERE NOT EXISTS (SELECT FROM interventions WHERE interventions.message_id = messages.message_id)
) AS compared
