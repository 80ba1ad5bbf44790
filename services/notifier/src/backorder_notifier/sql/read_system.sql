-- Which server this is: another after a restore elsewhere; the timeline is another after a failover or a restore to a
-- point in time.
SELECT
    (SELECT system_identifier FROM pg_control_system())::text AS system_identifier,
    CASE
        WHEN pg_is_in_recovery() THEN (SELECT timeline_id FROM pg_control_checkpoint())
        ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer
    END AS timeline
