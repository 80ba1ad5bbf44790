-- The dead letters of a part of a partition, byte for byte, of the topic as it is now.
-- $1 text full topic, $2 integer partition, $3 bigint first offset, $4 bigint last offset.
SELECT record_offset, record_key, record_value, header_names, header_values
FROM dead_letters
WHERE full_topic = $1::text AND partition = $2::integer AND record_offset BETWEEN $3::bigint AND $4::bigint
    AND topics_ago = 0
