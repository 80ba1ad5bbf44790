-- The next outcomes to be published, in log order. Only the holder of the relay's lease asks.
-- $1 integer at most.
SELECT position, record_key, record_value, header_names, header_values
FROM outbox
ORDER BY position
LIMIT $1::integer
