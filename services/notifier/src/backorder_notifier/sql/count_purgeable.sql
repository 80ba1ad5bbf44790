-- How many dead letters a purge would remove, and how many of these nobody has used after all.
-- $1 timestamptz: failed before.
SELECT count(*) AS letters, count(*) FILTER (WHERE redriven_at IS NULL) AS unresolved
FROM dead_letters
WHERE failed_at < $1::timestamptz AND published_at IS NOT NULL
