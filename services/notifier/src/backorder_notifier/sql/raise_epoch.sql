-- What is published from now on is of a new epoch, so that subscribers take it for what holds. Never lower.
-- $1 integer epoch.
UPDATE identity SET epoch = greatest(epoch, $1::integer)
