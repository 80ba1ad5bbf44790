-- Removes dead letters by age, oldest first; one that waits to be published stays.
-- $1 timestamptz: failed before, $2 integer at most.
DELETE FROM dead_letters
WHERE dead_letter_id IN (
    SELECT dead_letter_id
    FROM dead_letters
    WHERE failed_at < $1::timestamptz AND published_at IS NOT NULL
    ORDER BY dead_letter_id
    LIMIT $2::integer
    FOR UPDATE SKIP LOCKED
)
RETURNING dead_letter_id
