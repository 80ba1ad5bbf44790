-- Records of keys that wait for an earlier version. Their orders are locked.
-- $1 text topic, $2 text[] keys.
SELECT
    topic, full_topic, partition, record_offset, recorded_at, record_key, record_value, header_names, header_values,
    key, epoch, version, parked_at
FROM parked
WHERE topic = $1::text AND key = ANY ($2::text[])
ORDER BY key, epoch, version
