-- Which losses of stock customers know of: the line and what caused it, from updates that were told. What a message
-- about to be withdrawn tells doesn't count.
-- $1 text[] order ids, $2 uuid[] messages that would be withdrawn.
SELECT order_id, line_no, caused_by
FROM updates
WHERE order_id = ANY ($1::text[])
    AND kind = 'allocation_revoked'
    AND state = 'told'
    AND (message_id IS NULL OR message_id <> ALL ($2::uuid[]))
