-- What the server promises of what is committed, and whether this connection is encrypted.
SELECT
    current_setting('server_version_num')::integer AS version,
    current_setting('fsync')::boolean AS fsync,
    current_setting('full_page_writes')::boolean AS full_page_writes,
    current_setting('synchronous_commit') AS synchronous_commit,
    pg_is_in_recovery() AS is_a_copy,
    inet_server_addr() IS NULL OR host(inet_server_addr()) IN ('127.0.0.1', '::1') AS is_this_machine,
    (SELECT pg_stat_ssl.ssl FROM pg_stat_ssl WHERE pg_stat_ssl.pid = pg_backend_pid()) AS encrypted,
    current_setting('TimeZone') AS timezone
