-- What is held of a customer apart from orders.
-- $1 text customer id.
SELECT jsonb_build_object(
    'revision', revision,
    'email', email,
    'email_at', email_at,
    'phone', phone,
    'phone_at', phone_at,
    'name', name,
    'name_at', name_at,
    'locale', locale,
    'locale_at', locale_at,
    'timezone', timezone,
    'timezone_at', timezone_at,
    'channels', channels,
    'optional_kinds', optional_kinds,
    'unsubscribe_token', unsubscribe_token,
    'unsubscribed_at', unsubscribed_at,
    'forgotten_at', forgotten_at
) AS customer
FROM customers
WHERE customer_id = $1::text
