-- What the journal says of each input partition, in the order in which it was worked: ranges of offsets that were worked,
-- and (`is_worked` false) those that an operator accepted as lost. `is_current`: of the topic as it is now, not of one that
-- was deleted and made again.
WITH accepted AS (
    SELECT j.number, j.what ->> 'finding' AS finding, g.topic, g.partition, g."from", g."to"
    FROM journal j, jsonb_to_recordset(j.what -> 'gone') AS g (topic text, partition integer, "from" bigint, "to" bigint)
    WHERE j.kind = 'accepted'
), recreated AS (
    SELECT topic, partition, max(number) AS number FROM accepted WHERE finding = 'recreated_topic' GROUP BY topic, partition
), ranges AS (
    SELECT j.number, j.batch_id, j.at, true AS is_worked, r.topic, r.partition, r."from", r."to"
    FROM journal j, jsonb_to_recordset(j.what) AS r (topic text, partition integer, "from" bigint, "to" bigint)
    WHERE j.kind = 'batch'
    UNION ALL
    SELECT number, NULL, NULL, false, topic, partition, "from", "to" FROM accepted WHERE finding = 'lost_messages'
)
SELECT r.number, r.batch_id, r.at, r.is_worked, r.topic, r.partition, r."from" AS start, r."to" AS stop,
       r.number > coalesce(c.number, 0) AS is_current
FROM ranges r LEFT JOIN recreated c USING (topic, partition)
ORDER BY r.topic COLLATE "C", r.partition, r.number, r."from"
