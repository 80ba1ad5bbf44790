-- Who publishes outcomes, and until when; and how often one was refused that had been overtaken.
SELECT holder::text AS holder, epoch, ends_at, refused, refused_at FROM leases WHERE name = 'relay'
