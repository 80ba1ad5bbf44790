-- Whether a claim would find anything: asked first, so that a notifier with nothing to do writes nothing.
-- $1 text channel, $2 timestamptz now.
SELECT EXISTS (
    SELECT FROM deliveries WHERE channel = $1::text AND state = 'due' AND due_at <= $2::timestamptz
) AS due
