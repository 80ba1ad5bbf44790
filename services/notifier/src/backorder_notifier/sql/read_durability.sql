-- Whether what keeps commits is off, as it is for this connection.
SELECT
    NOT current_setting('fsync')::boolean AS fsync,
    NOT current_setting('full_page_writes')::boolean AS full_page_writes,
    current_setting('synchronous_commit') = 'off' AS synchronous_commit
