-- How far the log is, and how far it is published: whoever reads topics after this finds there all that is published by then.
SELECT h.seq, h.journal, h.epoch, r.seq AS published FROM log_head h, relay r
