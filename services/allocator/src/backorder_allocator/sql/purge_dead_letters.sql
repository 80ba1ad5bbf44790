-- Forgets dead letters that failed before a moment, whether they were driven again or not; what was not published yet stays.
-- $1 that moment.
WITH purged AS (DELETE FROM dead_letters WHERE failed_at < $1::timestamptz AND published RETURNING dead_letter_id)
SELECT count(*) AS purged FROM purged
