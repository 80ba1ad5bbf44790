-- Domains whose mail servers asked us to wait.
-- $1 timestamptz now.
SELECT domain, refusals, until FROM domain_backoffs WHERE until > $1::timestamptz ORDER BY until DESC, domain
