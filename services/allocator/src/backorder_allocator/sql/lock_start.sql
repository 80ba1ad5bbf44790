-- Processes that start at the same time ask the guards one after the other, until their transactions end. $1 key.
SELECT pg_advisory_xact_lock($1)
