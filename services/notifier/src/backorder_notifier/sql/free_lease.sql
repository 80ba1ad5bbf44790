-- Ends one's own lease at once, so that another need not wait for its end.
-- $1 text name, $2 uuid holder, $3 timestamptz now.
UPDATE leases
SET ends_at = $3::timestamptz
WHERE name = $1::text AND holder = $2::uuid
