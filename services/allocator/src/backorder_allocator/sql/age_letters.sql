-- The topics of letters were made again. Negative until aged_letters, so that no row meets another. $1 topics.
UPDATE dead_letters SET topics_ago = -1 - topics_ago WHERE topic = ANY ($1::text[])
