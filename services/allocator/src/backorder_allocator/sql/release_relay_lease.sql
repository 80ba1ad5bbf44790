-- Gives the right to publish back, so that another process need not wait for the lease to end. $1 holder, $2 epoch.
UPDATE relay SET holder = NULL, lease_until = clock_timestamp() WHERE holder = $1 AND epoch = $2
