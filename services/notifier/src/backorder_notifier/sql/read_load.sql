-- What is in flight to a provider (leases that have not ended), and whether some domain is to be left alone. Read after
-- the provider's row was locked: a statement that waited for the lock would count what was there before.
-- $1 text channel, $2 timestamptz now.
SELECT
    (
        SELECT count(*)
        FROM deliveries
        WHERE channel = $1::text AND lease IS NOT NULL AND due_at > $2::timestamptz AND state = 'due'
    )::integer AS in_flight,
    EXISTS (SELECT FROM domain_backoffs WHERE until > $2::timestamptz) AS domains_wait
