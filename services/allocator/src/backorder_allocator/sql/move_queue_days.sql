-- Keeps the units that wait by day of rank (UTC). $1 pool ids (locked), $2 ranked at, $3 units more or fewer that wait.
WITH moved AS (
    SELECT pool_id, (ranked_at AT TIME ZONE 'UTC')::date AS day, sum(units)::bigint AS units
    FROM unnest($1::bigint[], $2::timestamptz[], $3::bigint[]) AS m (pool_id, ranked_at, units)
    GROUP BY 1, 2 HAVING sum(units) <> 0
)
MERGE INTO queue_days q USING moved m ON q.pool_id = m.pool_id AND q.day = m.day
WHEN MATCHED AND q.waiting + m.units = 0 THEN DELETE
WHEN MATCHED THEN UPDATE SET waiting = q.waiting + m.units
WHEN NOT MATCHED THEN INSERT VALUES (m.pool_id, m.day, m.units)
