-- Forgets that these domains asked us to wait: the next mail to one finds out again.
-- $1 text[] domains.
DELETE FROM domain_backoffs WHERE domain = ANY ($1::text[])
