-- From here on this transaction may idle no longer than any other: before it takes the head of the log.
SET LOCAL idle_in_transaction_session_timeout TO DEFAULT
