-- Nothing more is sent to this address until somebody takes it off the list.
-- $1 text channel, $2 text address, $3 text reason, $4 timestamptz now.
INSERT INTO suppressions (channel, address, reason, suppressed_at)
VALUES ($1::text, $2::text, $3::text, $4::timestamptz)
ON CONFLICT (channel, address) DO NOTHING
