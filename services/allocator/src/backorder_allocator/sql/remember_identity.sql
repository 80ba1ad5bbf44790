-- Notes the server, if it is another than last time. $1 system identifier, $2 timeline, $3 now. lock_start is held.
INSERT INTO identity (system_identifier, timeline, seen_at)
SELECT $1::text, $2::integer, $3
WHERE ($1::text, $2::integer) IS DISTINCT FROM
      (SELECT (system_identifier, timeline) FROM identity ORDER BY identity_id DESC LIMIT 1)
