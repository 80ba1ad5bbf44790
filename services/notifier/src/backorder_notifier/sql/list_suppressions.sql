-- Addresses that nothing is sent to, the newest first.
-- $1 text channel or null for all, $2 integer at most.
SELECT channel, address, reason, suppressed_at
FROM suppressions
WHERE $1::text IS NULL OR channel = $1::text
ORDER BY suppressed_at DESC, channel, address
LIMIT $2::integer
