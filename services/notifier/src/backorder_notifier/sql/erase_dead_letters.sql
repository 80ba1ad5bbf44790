-- Empties dead letters: key, value and headers go, where it was read and why it was refused stay. They are not driven
-- again, and the relay has nothing to publish of them.
-- $1 bigint[] dead letter ids, $2 text detail to put in place of what is there, $3 timestamptz now.
UPDATE dead_letters
SET record_key = NULL,
    record_value = NULL,
    header_names = '{}',
    header_values = '{}',
    detail = $2::text,
    newest_reason = NULL,
    newest_detail = NULL,
    published_at = coalesce(published_at, $3::timestamptz),
    redriven_at = coalesce(redriven_at, $3::timestamptz)
WHERE dead_letter_id = ANY ($1::bigint[])
RETURNING dead_letter_id
