-- The epoch of what is published.
SELECT epoch FROM identity
