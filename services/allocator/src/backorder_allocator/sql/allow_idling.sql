-- Lets this transaction idle so long between two statements, where the session has a limit at all. $1 such as '20s'.
SELECT set_config('idle_in_transaction_session_timeout', $1, true)
WHERE current_setting('idle_in_transaction_session_timeout') <> '0'
