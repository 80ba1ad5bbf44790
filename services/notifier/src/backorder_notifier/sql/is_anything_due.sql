-- Whether a claim would find anything: asked first, so that a notifier with nothing to do writes nothing. The earliest of
-- all, which the index deliveries_due begins with: an EXISTS would be looked for in the table where much is due.
-- $1 text channel, $2 timestamptz now.
SELECT coalesce(min(due_at) <= $2::timestamptz, false) AS due
FROM deliveries
WHERE channel = $1::text AND state = 'due'
