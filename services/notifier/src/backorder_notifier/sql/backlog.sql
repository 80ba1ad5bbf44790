-- What waits, for metrics.
SELECT
    (SELECT count(*) FROM deliveries WHERE state = 'due') AS due,
    (SELECT count(*) FROM updates WHERE state = 'pending') AS pending,
    (SELECT min(recorded_at) FROM deliveries WHERE state = 'due') AS oldest_due,
    (SELECT count(*) FROM outbox) AS outcomes_unpublished,
    (SELECT count(*) FROM dead_letters WHERE published_at IS NULL) AS dead_letters_unpublished,
    (SELECT count(*) FROM dead_letters WHERE redriven_at IS NULL) AS dead_letters,
    (SELECT count(*) FROM parked) AS parked
