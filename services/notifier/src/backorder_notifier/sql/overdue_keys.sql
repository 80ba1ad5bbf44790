-- Keys with a record that has waited too long for an earlier version. Takes no locks: the caller locks and looks again.
-- $1 timestamptz: parked before this, $2 integer: at most.
SELECT DISTINCT topic, key
FROM parked
WHERE parked_at < $1::timestamptz
ORDER BY key, topic
LIMIT $2::integer
