-- Takes or renews the right to publish. $1 holder, $2 seconds. A new holder gets a new epoch, which fences the old one.
-- The clock is the database's: it is the only one that all processes share.
UPDATE relay
SET holder = $1, epoch = CASE WHEN holder = $1 THEN epoch ELSE epoch + 1 END,
    lease_until = clock_timestamp() + make_interval(secs => $2)
WHERE holder IS NULL OR holder = $1 OR lease_until < clock_timestamp()
RETURNING epoch, seq, journal
