-- What waits, for what, and since when: one row. Of the deliveries that are due, each counts once: in hand (a sender has
-- it), to send (now), held by quiet hours (never tried, later), or backing off (tried, later).
-- $1 timestamptz now.
SELECT
    (SELECT count(*)::integer FROM updates WHERE state = 'pending') AS updates_pending,
    (SELECT min(recorded_at) FROM updates WHERE state = 'pending') AS oldest_update,
    (SELECT count(*)::integer FROM orders WHERE tell_at <= $1::timestamptz AND known_at IS NOT NULL) AS orders_to_decide,
    (SELECT min(tell_at) FROM orders WHERE tell_at > $1::timestamptz AND known_at IS NOT NULL) AS next_decision,
    (
        SELECT count(DISTINCT updates.order_id)::integer
        FROM updates
        JOIN orders ON orders.order_id = updates.order_id
        WHERE updates.state = 'pending' AND orders.known_at IS NULL
    ) AS orders_without_contact,
    due.deliveries_due, due.to_send, due.in_hand, due.held_by_quiet_hours, due.backing_off, due.in_doubt, due.oldest_due,
    (SELECT count(*)::integer FROM domain_backoffs WHERE until > $1::timestamptz) AS domains_backing_off,
    (SELECT count(*)::integer FROM suppressions) AS addresses_suppressed,
    (SELECT count(*)::integer FROM outbox) AS outcomes_unpublished,
    (SELECT count(*)::integer FROM dead_letters WHERE published_at IS NULL) AS dead_letters_unpublished,
    (SELECT count(*)::integer FROM dead_letters) AS dead_letters,
    (SELECT count(*)::integer FROM parked) AS parked
FROM (
    SELECT
        count(*)::integer AS deliveries_due,
        (count(*) FILTER (WHERE due_at <= $1::timestamptz))::integer AS to_send,
        (count(*) FILTER (WHERE due_at > $1::timestamptz AND lease IS NOT NULL))::integer AS in_hand,
        (
            count(*) FILTER (WHERE due_at > $1::timestamptz AND lease IS NULL AND first_attempt_at IS NULL)
        )::integer AS held_by_quiet_hours,
        (
            count(*) FILTER (WHERE due_at > $1::timestamptz AND lease IS NULL AND first_attempt_at IS NOT NULL)
        )::integer AS backing_off,
        (count(*) FILTER (WHERE in_doubt > 0))::integer AS in_doubt,
        min(recorded_at) AS oldest_due
    FROM deliveries
    WHERE state = 'due'
) AS due
