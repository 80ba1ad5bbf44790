-- Takes timers away whose reason is gone. Locks as for set_timers. $1 kinds, $2 subjects, $3 supply ids.
DELETE FROM timers t
USING unnest($1::text[], $2::text[], $3::text[]) AS d (kind, subject, supply_id)
WHERE t.kind = d.kind AND t.subject = d.subject AND t.supply_id = d.supply_id
