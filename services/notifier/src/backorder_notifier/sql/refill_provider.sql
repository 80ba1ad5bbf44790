-- Locks a provider's row until the end of the transaction, so that one claim at a time counts what is in flight, and
-- gives it the tokens that time has brought. A process whose clock is behind brings none.
-- $1 text channel, $2 timestamptz now, $3 float8 tokens a second, $4 float8 the most it may have.
INSERT INTO providers (channel, tokens, refilled_at)
VALUES ($1::text, $4::float8, $2::timestamptz)
ON CONFLICT (channel) DO UPDATE
SET tokens = least(
        $4::float8,
        providers.tokens + $3::float8
        * greatest(0, extract(EPOCH FROM excluded.refilled_at - providers.refilled_at))::float8
    ),
    refilled_at = greatest(providers.refilled_at, excluded.refilled_at)
RETURNING tokens
