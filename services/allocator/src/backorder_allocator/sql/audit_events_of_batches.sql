-- The seqs of events that one of these messages caused. $1 batch ids, $2 ids of messages.
SELECT j.first_seq + e.ordinal AS seq FROM events e JOIN journal j USING (batch_id)
WHERE e.batch_id = ANY ($1::bigint[]) AND e.caused_by = ANY ($2::text[])
