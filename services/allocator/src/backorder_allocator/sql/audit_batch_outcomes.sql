-- How many outcomes each batch had, how many of them were dead letters, and where its events are; in the order of the journal.
SELECT number, applied + duplicates + ignored + dead_letters AS outcomes, dead_letters, first_seq, event_count
FROM journal WHERE kind = 'batch' ORDER BY number
