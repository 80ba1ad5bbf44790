-- Work begins at the beginning of topics, wherever that is. $1 topics.
UPDATE cursors SET next_offset = 0 WHERE topic = ANY ($1::text[]) AND next_offset > 0
