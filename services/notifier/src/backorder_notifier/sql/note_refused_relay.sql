-- Counts that a process was refused that published while another had the relay's lease. No row: it still has it.
-- $1 uuid holder, $2 bigint its epoch, $3 timestamptz now.
UPDATE leases
SET refused = refused + 1, refused_at = $3::timestamptz
WHERE name = 'relay' AND (holder, epoch) IS DISTINCT FROM ($1::uuid, $2::bigint)
RETURNING epoch
