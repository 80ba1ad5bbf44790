-- The number of the newest journal entry. No locks.
SELECT journal FROM log_head
