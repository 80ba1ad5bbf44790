-- Removes dead letters by age, oldest first, and notes that they went; one that waits to be published stays, and so does one
-- that is locked by who drives it again. How many went, and how many of these nobody had used after all.
-- $1 timestamptz: failed before, $2 integer at most.
WITH old AS (
    SELECT dead_letter_id
    FROM dead_letters
    WHERE failed_at < $1::timestamptz AND published_at IS NOT NULL
    ORDER BY failed_at
    LIMIT $2::integer
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM dead_letters USING old WHERE dead_letters.dead_letter_id = old.dead_letter_id RETURNING redriven_at
), purged AS (
    SELECT count(*) AS letters, count(*) FILTER (WHERE redriven_at IS NULL) AS unresolved FROM gone
), noted AS (
    INSERT INTO dead_letters_purged AS before (failed_before, letters, unresolved)
    SELECT $1::timestamptz, letters, unresolved FROM purged WHERE letters > 0
    ON CONFLICT (only_row) DO UPDATE
    SET failed_before = greatest(before.failed_before, excluded.failed_before),
        letters = before.letters + excluded.letters,
        unresolved = before.unresolved + excluded.unresolved
)
SELECT letters, unresolved FROM purged
