-- The epoch of what is published: higher after a restored database was accepted. Takes no locks.
SELECT epoch FROM identity
