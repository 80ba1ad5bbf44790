-- The dead letter of a record. $1 topic, $2 partition, $3 offset, $4 how often its topic was made again since then.
SELECT dead_letter_id FROM dead_letters WHERE topic = $1 AND partition = $2 AND record_offset = $3 AND topics_ago = $4
