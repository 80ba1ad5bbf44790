-- Invariant 8: the journal's ranges of a partition follow each other without gap or overlap up to the cursor, and no entry
-- has more outcomes than offsets.
WITH ranges AS (
    SELECT j.number, r.topic, r.partition, r."from", r."to"
    FROM journal j, jsonb_to_recordset(j.what) AS r (topic text, partition integer, "from" bigint, "to" bigint)
    WHERE j.kind = 'batch'
), found AS (
    SELECT "to" <= "from" OR lag("to") OVER in_order <> "from" AS broken,
           format('%s-%s: journal entry %s begins at %s, the one before ended at %s', topic, partition, number, "from",
                  lag("to") OVER in_order) AS what
    FROM ranges WINDOW in_order AS (PARTITION BY topic, partition ORDER BY number, "from")
    UNION ALL
    SELECT c.next_offset <> coalesce(max(r."to"), 0), format('%s-%s: cursor %s, journal %s', topic, partition, c.next_offset, max(r."to"))
    FROM cursors c LEFT JOIN ranges r USING (topic, partition) GROUP BY topic, partition, c.next_offset
    UNION ALL
    SELECT j.applied + j.duplicates + j.ignored + j.dead_letters > coalesce(sum(r."to" - r."from"), 0),
           format('journal entry %s has more outcomes than offsets', j.number)
    FROM journal j LEFT JOIN ranges r USING (number) WHERE j.kind = 'batch' GROUP BY j.number
)
SELECT count(*) AS checked, count(*) FILTER (WHERE broken) AS broken, (array_agg(what) FILTER (WHERE broken))[1:5] AS examples FROM found
