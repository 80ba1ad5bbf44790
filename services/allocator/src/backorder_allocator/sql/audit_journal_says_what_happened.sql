-- Invariant 7: every entry says what it worked on, in a way that it can be repeated by, and its events name it as cause.
WITH found AS (
    SELECT CASE kind
               WHEN 'batch' THEN jsonb_typeof(what) <> 'array'
               WHEN 'redrive' THEN NOT (what ?& ARRAY['topic', 'partition', 'offset'])
               WHEN 'timer' THEN NOT (what ?& ARRAY['kind', 'subject', 'supply_id', 'due'])
               WHEN 'planner' THEN NOT (what ?& ARRAY['at', 'pools', 'most'])
               WHEN 'accepted' THEN event_count <> 0 OR CASE what ->> 'finding'
                                        WHEN 'lost_messages' THEN jsonb_typeof(what -> 'gone') IS DISTINCT FROM 'array'
                                        WHEN 'recreated_topic' THEN NOT (what ?& ARRAY['topics', 'gone'])
                                        WHEN 'restored_database' THEN jsonb_typeof(what -> 'epoch') IS DISTINCT FROM 'number'
                                        ELSE true
                                    END
           END OR rules_id IS NOT NULL AND NOT EXISTS (SELECT FROM rules r WHERE r.rules_id = j.rules_id) AS broken,
           format('journal entry %s (%s, rules %s): %s', number, kind, rules_id, what) AS what
    FROM journal j
    UNION ALL
    SELECT CASE j.kind
               WHEN 'planner' THEN e.type NOT IN ('PromiseChanged', 'SkuAvailability') OR e.caused_by <> 'planner:' || j.number
               WHEN 'timer' THEN e.caused_by <> left(concat_ws(':', 'timer', j.what ->> 'kind', j.what ->> 'subject', nullif(j.what ->> 'supply_id', '')), 200)
               ELSE e.type IN ('PromiseChanged', 'SkuAvailability')
           END,
           format('journal entry %s (%s): %s of %s is caused by %s', j.number, j.kind, e.type, e.key, e.caused_by)
    FROM events e JOIN journal j USING (batch_id)
)
SELECT count(*) AS checked, count(*) FILTER (WHERE broken) AS broken, (array_agg(what) FILTER (WHERE broken))[1:5] AS examples FROM found
