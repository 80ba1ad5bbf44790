-- The epoch of event ids.
SELECT epoch FROM log_head
