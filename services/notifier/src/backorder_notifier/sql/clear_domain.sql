-- A domain took a mail: nothing for it waits any more, but what was put off already.
-- $1 text domain.
DELETE FROM domain_backoffs WHERE domain = $1::text
