-- Customers, locked in customer_id order (byte order: two batches that name A,B and B,A would deadlock), before any order.
-- $1 text[] customer ids.
SELECT
    customer_id, revision, email, email_at, phone, phone_at, name, name_at, locale, locale_at, timezone, timezone_at,
    channels, optional_kinds, unsubscribe_token, unsubscribed_at, forgotten_at
FROM customers
WHERE customer_id = ANY ($1::text[])
ORDER BY customer_id COLLATE "C"
FOR UPDATE
