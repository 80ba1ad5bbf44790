-- The same for all copies that descend from one initdb. Some services forbid it.
SELECT system_identifier::text FROM pg_control_system()
