-- Who publishes outcomes, and until when.
SELECT holder::text AS holder, epoch, ends_at FROM leases WHERE name = 'relay'
