-- One holder at a time: takes the lease if it is free or over, or renews one's own. No row: another has it.
-- $1 text name, $2 uuid holder, $3 timestamptz now, $4 timestamptz end.
INSERT INTO leases (name, holder, epoch, ends_at)
VALUES ($1::text, $2::uuid, 1, $4::timestamptz)
ON CONFLICT (name) DO UPDATE
SET holder = EXCLUDED.holder,
    ends_at = EXCLUDED.ends_at,
    epoch = leases.epoch + CASE WHEN leases.holder = EXCLUDED.holder THEN 0 ELSE 1 END
WHERE leases.holder = EXCLUDED.holder OR leases.ends_at <= $3::timestamptz
RETURNING epoch
