-- Ends sessions of frozen processes of ours that the server's own time limits do not end. $1 seconds of silence.
-- Between the preparing of a statement and its execution, and in the middle of COPY, a session is "active" and waits for
-- its client: neither statement_timeout nor idle_in_transaction_session_timeout counts there, and its locks stay.
-- Needs no more rights than any user has over its own sessions. Locks nothing.
SELECT pid, pg_terminate_backend(pid) AS ended
FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
  AND application_name LIKE 'backorder-allocator%' AND state = 'active' AND xact_start IS NOT NULL
  AND wait_event = 'ClientRead' AND state_change < clock_timestamp() - make_interval(secs => $1)
