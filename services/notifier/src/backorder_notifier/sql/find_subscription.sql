-- Whose unsubscribe link it is, and whether they want messages of optional kinds. No lock.
-- $1 text token.
SELECT customer_id, optional_kinds FROM customers WHERE unsubscribe_token = $1::text
