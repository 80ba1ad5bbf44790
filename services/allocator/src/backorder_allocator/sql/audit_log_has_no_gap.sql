-- Invariant 7: seq counts the events of the journal's entries without gap, in their order; every event has its entry;
-- the head is the newest, and the relay is not beyond it.
WITH entries AS (
    SELECT j.number, j.batch_id, j.first_seq, j.event_count, count(e.ordinal) AS events, coalesce(max(e.ordinal) + 1, 0) AS ordinals
    FROM journal j LEFT JOIN events e USING (batch_id)
    GROUP BY j.number
), found AS (
    SELECT number <> row_number() OVER all_before
           OR first_seq <> 1 + sum(event_count) OVER all_before - event_count
           OR events <> event_count OR ordinals <> event_count AS broken,
           format('journal entry %s: first seq %s, says %s events, has %s', number, first_seq, event_count, events) AS what,
           jsonb_build_object('journal', number) AS about
    FROM entries WINDOW all_before AS (ORDER BY number)
    UNION ALL
    SELECT j.batch_id IS NULL, format('event %s has no journal entry', e.id), NULL FROM events e LEFT JOIN journal j USING (batch_id)
    UNION ALL
    SELECT h.seq <> (SELECT count(*) FROM events) OR h.journal <> (SELECT count(*) FROM journal) OR r.seq > h.seq,
           format('head: seq %s, journal %s; relay %s', h.seq, h.journal, r.seq), NULL
    FROM log_head h, relay r
)
SELECT count(*) AS checked, count(*) FILTER (WHERE broken) AS broken, (array_agg(what) FILTER (WHERE broken))[1:5] AS examples,
       (array_agg(about) FILTER (WHERE broken))[1] AS about
FROM found
