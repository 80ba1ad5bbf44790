-- Dead letters of a topic that was made again: one more topic ago. Done twice in one transaction, since the places
-- (offset, age) must be free at each moment: first all ages turn negative, then positive again.
-- $1 text full topic.
UPDATE dead_letters
SET topics_ago = CASE WHEN topics_ago >= 0 THEN -topics_ago - 1 ELSE -topics_ago END
WHERE full_topic = $1::text
