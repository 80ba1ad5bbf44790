-- Whether a customer wants messages of optional kinds, by the link in a message. The row is locked. No row: it was so.
-- $1 text customer id, $2 boolean wanted, $3 timestamptz now.
UPDATE customers
SET optional_kinds = $2::boolean,
    unsubscribed_at = CASE WHEN NOT $2::boolean THEN $3::timestamptz END
WHERE customer_id = $1::text AND (optional_kinds <> $2::boolean OR (unsubscribed_at IS NULL) <> $2::boolean)
RETURNING customer_id
