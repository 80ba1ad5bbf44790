-- After age_letters: how often topics were made again since a letter came. $1 topics.
UPDATE dead_letters SET topics_ago = -topics_ago WHERE topic = ANY ($1::text[]) AND topics_ago < 0
