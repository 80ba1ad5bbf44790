-- The server that the database lived on when a process last started. None before the first start.
SELECT system_identifier, timeline, seen_at FROM identity ORDER BY identity_id DESC LIMIT 1
