-- Whose unsubscribe link it is. No lock.
-- $1 text token.
SELECT customer_id FROM customers WHERE unsubscribe_token = $1::text
