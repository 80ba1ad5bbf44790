-- How many dead letters a purge would forget, and how many of these nobody has resolved. $1 failed before this moment.
SELECT count(*) AS purged, count(*) FILTER (WHERE resolved_at IS NULL) AS unresolved
FROM dead_letters WHERE failed_at < $1::timestamptz AND published
