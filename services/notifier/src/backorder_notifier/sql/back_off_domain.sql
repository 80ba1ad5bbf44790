-- A domain's server asked us to wait: doubling with each time it does so again after a wait. A refusal of a try that was
-- begun before the wait began says nothing new.
-- $1 text domain, $2 timestamptz now, $3 timestamptz begin of the try, $4 float8 first wait in seconds,
-- $5 float8 the longest.
INSERT INTO domain_backoffs (domain, refusals, until)
VALUES ($1::text, 1, $2::timestamptz + $4::float8 * interval '1 second')
ON CONFLICT (domain) DO UPDATE
SET refusals = domain_backoffs.refusals + 1,
    until = $2::timestamptz
        + least($5::float8, $4::float8 * 2 ^ least(domain_backoffs.refusals, 30)) * interval '1 second'
WHERE domain_backoffs.until <= $3::timestamptz
