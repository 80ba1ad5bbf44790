-- Which of these addresses nothing is sent to any more, and why.
-- One array a column: $1 text[] channels, $2 text[] addresses.
SELECT suppressions.channel, suppressions.address, suppressions.reason, suppressions.suppressed_at
FROM suppressions
JOIN unnest($1::text[], $2::text[]) AS batch (channel, address)
    ON suppressions.channel = batch.channel AND suppressions.address = batch.address
ORDER BY suppressions.channel, suppressions.address
