-- What the server does against a loss, and whom it talks to. No rights are needed.
SELECT current_setting('server_version_num')::integer AS version, pg_is_in_recovery() AS is_a_copy,
       current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit,
       coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false) AS encrypted,
       coalesce(inet_client_addr() = inet_server_addr() OR inet_client_addr() << '127.0.0.0/8', true) AS is_this_machine
