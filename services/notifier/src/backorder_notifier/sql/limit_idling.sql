-- From now on a transaction of this session in which nothing happens is ended by the server: a command that is frozen while it
-- drives a letter again must not hold the rows of its order for longer than this.
SELECT set_config('idle_in_transaction_session_timeout', '15s', false)
