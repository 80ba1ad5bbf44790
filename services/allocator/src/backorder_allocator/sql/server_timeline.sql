-- Grows with every failover and every recovery to a point in time. Refused by a standby, and by some services.
SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer AS timeline
