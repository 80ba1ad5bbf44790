-- How the customers of locked orders are reached.
-- $1 text[] order ids.
SELECT
    order_id, customer_id, email, phone, name, locale, timezone, channels, optional_kinds, unsubscribe_token, forgotten
FROM contacts
WHERE order_id = ANY ($1::text[])
