-- Which deliveries are of messages that tell these events. `at`: which of them, from 1 on; `resent`: by staff.
-- $1 text[] order ids, $2 text[] first events told, $3 integer[] events told, $4 text[] channels.
SELECT
    named.at, deliveries.state,
    EXISTS (SELECT FROM interventions WHERE interventions.order_id = named.order_id) AS resent
FROM unnest($1::text[], $2::text[], $3::integer[], $4::text[])
    WITH ORDINALITY AS named (order_id, first_event, events, channel, at)
JOIN messages
    ON messages.order_id = named.order_id
    AND messages.about[1] = named.first_event
    AND least(cardinality(messages.about), 1000) = named.events
JOIN deliveries ON deliveries.message_id = messages.message_id AND deliveries.channel = named.channel
