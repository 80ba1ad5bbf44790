-- Which losses of stock were decided on, by line and what caused them: whether customers know of them, and whether it is
-- the event that books their units as waiting. What a message about to be withdrawn tells doesn't count as told.
-- $1 text[] order ids, $2 uuid[] messages that would be withdrawn.
SELECT
    order_id, line_no, caused_by,
    state = 'told' AND (message_id IS NULL OR message_id <> ALL ($2::uuid[])) AS is_told,
    event ->> 'type' = 'BackorderCreated' AS books_it
FROM updates
WHERE order_id = ANY ($1::text[])
    AND kind = 'allocation_revoked'
    AND state <> 'pending'
