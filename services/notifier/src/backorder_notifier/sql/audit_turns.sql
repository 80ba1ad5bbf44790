-- How far keys of versioned topics are, and which versions of them wait. $1 text topic, $2 text[] keys.
SELECT
    versions.key, versions.epoch, versions.version,
    ARRAY(
        SELECT parked.version FROM parked
        WHERE parked.topic = versions.topic AND parked.key = versions.key AND parked.epoch = versions.epoch
    ) AS waiting,
    ARRAY(
        SELECT parked.epoch FROM parked
        WHERE parked.topic = versions.topic AND parked.key = versions.key AND parked.epoch > versions.epoch
    ) AS epochs_waiting
FROM versions
WHERE versions.topic = $1::text AND versions.key = ANY ($2::text[])
