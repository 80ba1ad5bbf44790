-- Takes deliveries that are due for one sender: several processes may ask at once, each gets others (SKIP LOCKED; who
-- sends what doesn't matter). Of an order only the first that is not settled, so that nothing overtakes. The lease is
-- due_at itself: a sender that dies leaves a delivery that is due again when its lease ends.
-- $1 timestamptz now, $2 integer at most, $3 uuid of this lease, $4 timestamptz end of the lease.
WITH candidates AS (
    SELECT candidate.delivery_id
    FROM deliveries AS candidate
    WHERE candidate.state = 'due'
        AND candidate.due_at <= $1::timestamptz
        AND NOT EXISTS (
            SELECT
            FROM deliveries AS earlier
            WHERE earlier.order_id = candidate.order_id
                AND earlier.position < candidate.position
                AND earlier.state IN ('waiting_for_contact', 'due')
        )
    ORDER BY candidate.due_at
    LIMIT $2::integer
    FOR UPDATE OF candidate SKIP LOCKED
),
claimed AS (
    UPDATE deliveries
    SET lease = $3::uuid,
        due_at = $4::timestamptz,
        attempts = deliveries.attempts + 1,
        first_attempt_at = coalesce(deliveries.first_attempt_at, $1::timestamptz)
    FROM candidates
    WHERE deliveries.delivery_id = candidates.delivery_id
    RETURNING deliveries.*
)
SELECT
    claimed.delivery_id, claimed.order_id, claimed.kind, claimed.channel, claimed.attempts, claimed.first_attempt_at,
    claimed.lease, claimed.traceparent,
    orders.customer_id, orders.email, orders.name, orders.locale, orders.timezone, orders.order_url, orders.delivery,
    ARRAY(
        SELECT updates.event_id FROM updates WHERE updates.delivery_id = claimed.delivery_id ORDER BY updates.ordinal
    ) AS about,
    ARRAY(
        SELECT updates.event FROM updates WHERE updates.delivery_id = claimed.delivery_id ORDER BY updates.ordinal
    ) AS events,
    (SELECT min(updates.occurred_at) FROM updates WHERE updates.delivery_id = claimed.delivery_id) AS occurred_at
FROM claimed
JOIN orders ON orders.order_id = claimed.order_id
ORDER BY claimed.recorded_at, claimed.delivery_id
