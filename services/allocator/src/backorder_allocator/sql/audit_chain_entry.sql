-- One journal entry, and its first events. $1 number, $2 how many events.
SELECT j.number AS journal, j.kind, j.what, j.at, j.applied, j.duplicates, j.ignored, j.dead_letters, j.first_seq, j.event_count,
       ARRAY(
           SELECT e.type || ' of ' || e.key || ' (seq ' || j.first_seq + e.ordinal || ')'
           FROM events e WHERE e.batch_id = j.batch_id ORDER BY e.ordinal LIMIT $2
       ) AS events
FROM journal j WHERE j.number = $1
