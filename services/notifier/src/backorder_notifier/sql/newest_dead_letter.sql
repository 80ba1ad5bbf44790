-- The id of the newest dead letter, 0 where there is none: those that come while others are driven again wait for the next
-- time.
SELECT coalesce(max(dead_letter_id), 0) AS dead_letter_id FROM dead_letters
