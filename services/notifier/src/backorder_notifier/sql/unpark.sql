-- Forgets waiting records that were applied or are overtaken. Their orders are locked.
-- $1 text[] topics, $2 text[] keys, $3 bigint[] epochs, $4 bigint[] versions.
DELETE FROM parked
USING unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) AS batch (topic, key, epoch, version)
WHERE parked.topic = batch.topic
    AND parked.key = batch.key
    AND parked.epoch = batch.epoch
    AND parked.version = batch.version
