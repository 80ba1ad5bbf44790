-- Takes addresses off the list of those that nothing is sent to.
-- One array a column: $1 text[] channels, $2 text[] addresses.
DELETE FROM suppressions
USING unnest($1::text[], $2::text[]) AS batch (channel, address)
WHERE suppressions.channel = batch.channel AND suppressions.address = batch.address
RETURNING suppressions.channel, suppressions.address
