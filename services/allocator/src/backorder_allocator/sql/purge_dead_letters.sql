-- Forgets the oldest dead letters that failed before a moment, whether they were driven again or not, and notes that they went.
-- What was not published yet stays, and so does what is locked by somebody who drives it again. Gives how many went, and how many of
-- these nobody had resolved. $1 that moment, $2 how many at most.
WITH old AS (
    SELECT dead_letter_id FROM dead_letters
    WHERE failed_at < $1::timestamptz AND published
    ORDER BY failed_at
    LIMIT $2::integer
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM dead_letters USING old WHERE dead_letters.dead_letter_id = old.dead_letter_id RETURNING resolved_at
), purged AS (
    SELECT count(*) AS letters, count(*) FILTER (WHERE resolved_at IS NULL) AS unresolved FROM gone
), noted AS (
    INSERT INTO dead_letters_purged AS before (failed_before, letters, unresolved)
    SELECT $1::timestamptz, letters, unresolved FROM purged WHERE letters > 0
    ON CONFLICT (only_row) DO UPDATE
    SET failed_before = greatest(before.failed_before, excluded.failed_before),
        letters = before.letters + excluded.letters, unresolved = before.unresolved + excluded.unresolved
)
SELECT letters AS purged, unresolved FROM purged
