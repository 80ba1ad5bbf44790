-- Events of an order that wait for an earlier version.
-- $1 text order id.
SELECT topic, version, parked_at FROM parked WHERE key = $1::text ORDER BY topic, epoch, version
