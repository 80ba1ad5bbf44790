-- Which of these addresses nothing is sent to any more.
-- One array a column: $1 text[] channels, $2 text[] addresses.
SELECT suppressions.channel, suppressions.address
FROM unnest($1::text[], $2::text[]) AS asked (channel, address)
JOIN suppressions ON suppressions.channel = asked.channel AND suppressions.address = asked.address
