-- Records of keys that wait for an earlier version. Their orders are locked.
-- $1 text[] topics, $2 text[] keys (same length).
SELECT
    parked.topic, parked.full_topic, parked.partition, parked.record_offset, parked.recorded_at, parked.record_key,
    parked.record_value, parked.header_names, parked.header_values, parked.key, parked.epoch, parked.version,
    parked.parked_at
FROM parked
JOIN unnest($1::text[], $2::text[]) AS batch (topic, key) USING (topic, key)
ORDER BY parked.topic, parked.key, parked.epoch, parked.version
