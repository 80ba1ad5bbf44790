-- The epoch of event ids, and how far the log was published. No locks.
SELECT h.epoch, r.seq AS published FROM log_head h, relay r
