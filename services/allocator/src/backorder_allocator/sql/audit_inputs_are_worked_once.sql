-- Invariant 8: the journal's ranges of a partition follow each other without gap or overlap up to the cursor, and no entry
-- has more outcomes than offsets. What a person gave up is a range as well; where a topic was made again, a range without
-- an end, ranges begin anew.
WITH ranges AS (
    SELECT j.number, j.kind, r.topic, r.partition, r."from", r."to"
    FROM journal j,
         jsonb_to_recordset(CASE j.kind WHEN 'batch' THEN j.what WHEN 'accepted' THEN j.what -> 'gone' END)
             AS r (topic text, partition integer, "from" bigint, "to" bigint)
    WHERE j.kind IN ('batch', 'accepted')
), newest AS (
    SELECT DISTINCT ON (topic, partition) topic, partition, "to" FROM ranges ORDER BY topic, partition, number DESC, "from" DESC
), found AS (
    SELECT "to" <= "from" OR lag("to") OVER in_order <> "from" AS broken,
           format('%s-%s: journal entry %s begins at %s, the one before ended at %s', topic, partition, number, "from",
                  lag("to") OVER in_order) AS what
    FROM ranges WINDOW in_order AS (PARTITION BY topic, partition ORDER BY number, "from")
    UNION ALL
    SELECT c.next_offset <> coalesce(n."to", 0), format('%s-%s: cursor %s, journal %s', topic, partition, c.next_offset, n."to")
    FROM cursors c LEFT JOIN newest n USING (topic, partition)
    UNION ALL
    SELECT j.applied + j.duplicates + j.ignored + j.dead_letters > coalesce(sum(r."to" - r."from") FILTER (WHERE r.kind = 'batch'), 0),
           format('journal entry %s has more outcomes than offsets', j.number)
    FROM journal j LEFT JOIN ranges r USING (number) WHERE j.kind IN ('batch', 'accepted') GROUP BY j.number
)
SELECT count(*) AS checked, count(*) FILTER (WHERE broken) AS broken, (array_agg(what) FILTER (WHERE broken))[1:5] AS examples FROM found
