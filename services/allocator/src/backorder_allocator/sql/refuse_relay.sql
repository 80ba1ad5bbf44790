-- Notes that a process was refused that believed it still had the right to publish. The clock is that of the lease.
UPDATE relay SET refused = refused + 1, refused_at = clock_timestamp()
