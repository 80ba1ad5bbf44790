-- The server as a start saw it.
-- $1 text system identifier, $2 integer timeline (both null: it doesn't say), $3 timestamptz now.
UPDATE identity SET system_identifier = $1::text, timeline = $2::integer, seen_at = $3::timestamptz
