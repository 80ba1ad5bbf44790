-- Takes back open deliveries of locked orders for good, and says of the events in messages that went nowhere that they
-- are not told. A delivery that a sender has in hand at this moment is taken back too: it is not tried again, but if it
-- is accepted after all, that is noted (settle_sent), so its events stay told. `in_hand` counts those.
-- $1 text[] order ids, $2 text[] kinds (null: all), $3 text reason, $4 timestamptz now.
WITH open AS MATERIALIZED (
    SELECT
        deliveries.delivery_id, deliveries.message_id,
        deliveries.lease IS NOT NULL AND deliveries.due_at > $4::timestamptz AS in_hand,
        deliveries.lease IS NOT NULL AND deliveries.due_at <= $4::timestamptz AS sender_lost
    FROM deliveries
    JOIN messages ON messages.message_id = deliveries.message_id
    WHERE deliveries.order_id = ANY ($1::text[])
        AND deliveries.state = 'due'
        AND ($2::text[] IS NULL OR messages.kind = ANY ($2::text[]))
    ORDER BY deliveries.delivery_id
    FOR UPDATE OF deliveries
),
withdrawn AS (
    UPDATE deliveries
    SET state = 'superseded',
        reason = $3::text,
        settled_at = $4::timestamptz,
        in_doubt = deliveries.in_doubt + open.sender_lost::integer,
        lease = NULL
    FROM open
    WHERE deliveries.delivery_id = open.delivery_id
    RETURNING deliveries.delivery_id
),
not_told AS (
    UPDATE updates
    SET state = 'not_told', reason = $3::text, decided_at = $4::timestamptz
    WHERE updates.state = 'told'
        AND updates.message_id IN (SELECT open.message_id FROM open)
        AND updates.message_id NOT IN (SELECT open.message_id FROM open WHERE open.in_hand)
        AND NOT EXISTS (
            SELECT FROM deliveries AS accepted
            WHERE accepted.message_id = updates.message_id AND accepted.state = 'sent'
        )
    RETURNING updates.event_id
)
SELECT
    (SELECT count(*) FROM withdrawn)::integer AS deliveries,
    (SELECT count(*) FROM open WHERE open.in_hand)::integer AS in_hand,
    (SELECT count(*) FROM not_told)::integer AS updates
