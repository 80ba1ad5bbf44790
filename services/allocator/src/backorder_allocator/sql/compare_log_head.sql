-- Where the log ends. The epoch is what an operator sets.
SELECT 'log' AS key, (to_jsonb(h) - 'epoch')::text AS content FROM log_head h
