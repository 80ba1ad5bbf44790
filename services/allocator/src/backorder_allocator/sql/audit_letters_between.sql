-- The dead letters of a part of a partition, byte for byte. $1 topic, $2 partition, $3 first offset, $4 last offset.
SELECT record_offset, key, value, header_names, header_values, reason FROM dead_letters
WHERE topic = $1 AND partition = $2 AND record_offset BETWEEN $3 AND $4 AND topics_ago = 0
