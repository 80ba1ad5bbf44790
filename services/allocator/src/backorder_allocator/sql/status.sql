-- Where publishing, planning, timers, queues and dead letters stand, who was refused and who decided. One row.
SELECT h.seq AS events, h.journal AS transactions, h.epoch,
       r.holder AS relay_holder, r.epoch AS relay_epoch, r.lease_until AS relay_lease_until, h.seq - r.seq AS relay_behind,
       r.refused AS relay_refused, r.refused_at AS relay_refused_at,
       (SELECT count(*) FROM pools) AS pools,
       (SELECT count(*) FROM pools WHERE waiting > 0) AS pools_waiting,
       (SELECT coalesce(sum(waiting), 0)::bigint FROM pools) AS units_waiting,
       (SELECT coalesce(sum(allocated), 0)::bigint FROM pools) AS units_allocated,
       (SELECT count(*) FROM pools WHERE stale_since IS NOT NULL) AS pools_stale,
       (SELECT min(stale_since) FROM pools WHERE stale_since IS NOT NULL) AS stale_since,
       (SELECT count(*) FROM timers) AS timers,
       (SELECT min(due_at) FROM timers) AS next_timer_at,
       (SELECT count(*) FROM fulfilments WHERE waits) AS shipments_waiting,
       (SELECT count(*) FROM dead_letters WHERE resolved_at IS NULL) AS dead_letters,
       (SELECT count(*) FROM dead_letters WHERE NOT published) AS dead_letters_unpublished,
       (SELECT count(*) FROM interventions) AS interventions
FROM log_head h, relay r
