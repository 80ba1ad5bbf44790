-- How many events are committed and not published. Locks nothing: both rows are as of the last COMMIT.
SELECT h.seq - r.seq AS events FROM log_head h, relay r
