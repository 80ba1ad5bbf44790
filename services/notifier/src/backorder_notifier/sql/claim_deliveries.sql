-- Takes deliveries of one channel that are due for one sender; others take others (SKIP LOCKED: who sends what doesn't
-- matter). The lease is due_at itself: a sender that dies leaves a delivery that is due again when its lease ends, and
-- since nobody can say whether that try was accepted, it is noted as a try in doubt.
--
-- Of those looked at, the ones whose domain is to be left alone go to the end of that wait without being tried, a second
-- later than those that were refused: so these find out for all. What should have been given up by now is tried all the
-- same, or nothing would end it. The provider's row is locked by refill_provider.
--
-- Of one order each message has its turn: none goes while an earlier one waits on the same channel. (Mails and text
-- messages that wait are withdrawn for newer ones; the shop's own system gets them all.)
--
-- $1 text channel, $2 timestamptz now, $3 integer to look at, $4 integer to take, $5 uuid of this lease,
-- $6 timestamptz end of the lease, $7 timestamptz: first tried before is given up.
WITH due AS MATERIALIZED (
    SELECT
        deliveries.delivery_id, deliveries.order_id, deliveries.due_at, deliveries.attempts, deliveries.first_attempt_at,
        deliveries.lease IS NOT NULL AS sender_lost
    FROM deliveries
    WHERE deliveries.channel = $1::text AND deliveries.state = 'due' AND deliveries.due_at <= $2::timestamptz
        AND NOT EXISTS (
            SELECT
            FROM deliveries AS earlier
            JOIN messages AS before ON before.message_id = earlier.message_id
            JOIN messages AS this ON this.message_id = deliveries.message_id
            WHERE earlier.order_id = deliveries.order_id
                AND earlier.state = 'due'
                AND earlier.channel = $1::text
                AND before.position < this.position
        )
    ORDER BY deliveries.due_at
    LIMIT $3::integer
    FOR UPDATE OF deliveries SKIP LOCKED
),
looked_at AS MATERIALIZED (
    SELECT
        due.*, contacts.domain, domain_backoffs.domain IS NOT NULL AS domain_refused,
        CASE
            WHEN domain_backoffs.until > $2::timestamptz
                AND coalesce(due.first_attempt_at, $2::timestamptz) >= $7::timestamptz
            THEN domain_backoffs.until
        END AS wait_until
    FROM due
    JOIN LATERAL (
        SELECT lower(substring(contacts.email FROM '[^@]*$')) AS domain
        FROM contacts
        WHERE contacts.order_id = due.order_id
    ) AS contacts ON true
    LEFT JOIN domain_backoffs ON $1::text = 'email' AND domain_backoffs.domain = contacts.domain
),
chosen AS MATERIALIZED (
    SELECT * FROM looked_at WHERE wait_until IS NULL ORDER BY due_at LIMIT $4::integer
),
waiting AS (
    UPDATE deliveries
    SET due_at = looked_at.wait_until + interval '1 second',
        first_attempt_at = coalesce(deliveries.first_attempt_at, $2::timestamptz),
        reason = 'domain waits',
        in_doubt = deliveries.in_doubt + looked_at.sender_lost::integer,
        lease = NULL
    FROM looked_at
    WHERE looked_at.wait_until IS NOT NULL AND deliveries.delivery_id = looked_at.delivery_id
    RETURNING deliveries.delivery_id
),
claimed AS (
    UPDATE deliveries
    SET lease = $5::uuid,
        due_at = $6::timestamptz,
        attempts = deliveries.attempts + 1,
        in_doubt = deliveries.in_doubt + chosen.sender_lost::integer,
        first_attempt_at = coalesce(deliveries.first_attempt_at, $2::timestamptz)
    FROM chosen
    WHERE deliveries.delivery_id = chosen.delivery_id
    RETURNING deliveries.*, chosen.sender_lost, chosen.domain, chosen.domain_refused
),
in_doubt AS (
    INSERT INTO attempts (delivery_id, attempt, at, outcome, reason)
    SELECT looked_at.delivery_id, looked_at.attempts, $2::timestamptz, 'ambiguous', 'sender lost'
    FROM looked_at
    WHERE looked_at.sender_lost
        AND (looked_at.wait_until IS NOT NULL OR looked_at.delivery_id IN (SELECT chosen.delivery_id FROM chosen))
    ON CONFLICT (delivery_id, attempt) DO NOTHING
),
paid AS (
    UPDATE providers SET tokens = tokens - (SELECT count(*) FROM claimed) WHERE channel = $1::text
)
SELECT
    claimed.delivery_id, claimed.message_id, claimed.order_id, claimed.channel, claimed.attempts,
    claimed.first_attempt_at, claimed.lease, claimed.sender_lost, claimed.domain, claimed.domain_refused,
    messages.kind, messages.content, messages.about, messages.occurred_at, messages.composed_at, messages.traceparent,
    messages.customer_id, contacts.email, contacts.phone, contacts.name, contacts.locale, contacts.timezone,
    contacts.channels, contacts.optional_kinds, contacts.unsubscribe_token, contacts.forgotten,
    (SELECT count(*) FROM waiting)::integer AS set_aside
FROM claimed
JOIN messages ON messages.message_id = claimed.message_id
JOIN contacts ON contacts.order_id = claimed.order_id
UNION ALL
-- Always one row more, so that what was set aside is known where nothing was taken.
SELECT
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, (SELECT count(*) FROM waiting)::integer
