-- What customers said of themselves. The rows are locked by lock_customers.
-- One array a column: $1 customer_id (text[]), $2 revision (bigint[]), $3 email, $4 email_at, $5 phone, $6 phone_at,
-- $7 name, $8 name_at, $9 locale, $10 locale_at, $11 timezone, $12 timezone_at (text[], timestamptz[]), $13 channels
-- (text[]: JSON each, since arrays of arrays don't pass through unnest), $14 optional_kinds (boolean[]),
-- $15 unsubscribed_at, $16 forgotten_at (timestamptz[]).
UPDATE customers
SET revision = batch.revision,
    email = batch.email,
    email_at = batch.email_at,
    phone = batch.phone,
    phone_at = batch.phone_at,
    name = batch.name,
    name_at = batch.name_at,
    locale = batch.locale,
    locale_at = batch.locale_at,
    timezone = batch.timezone,
    timezone_at = batch.timezone_at,
    channels = CASE
        WHEN batch.channels IS NOT NULL THEN ARRAY(SELECT jsonb_array_elements_text(batch.channels::jsonb))
    END,
    optional_kinds = batch.optional_kinds,
    unsubscribed_at = batch.unsubscribed_at,
    forgotten_at = batch.forgotten_at
FROM unnest(
    $1::text[], $2::bigint[], $3::text[], $4::timestamptz[], $5::text[], $6::timestamptz[], $7::text[],
    $8::timestamptz[], $9::text[], $10::timestamptz[], $11::text[], $12::timestamptz[], $13::text[], $14::boolean[],
    $15::timestamptz[], $16::timestamptz[]
) AS batch (
    customer_id, revision, email, email_at, phone, phone_at, name, name_at, locale, locale_at, timezone, timezone_at,
    channels, optional_kinds, unsubscribed_at, forgotten_at
)
WHERE customers.customer_id = batch.customer_id
