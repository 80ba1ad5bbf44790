-- Notes what was published of pools. They are locked. $1 pool ids, $2 whether nothing of it is left to plan,
-- $3 availability as published now, or null, $4 when availability has to be looked at again, or null. Their revision grows, so that no other run goes on with a plan made before.
WITH planned AS (SELECT * FROM unnest($1::bigint[], $2::boolean[], $3::text[], $4::timestamptz[]) AS p (pool_id, done, shown, ages_at))
UPDATE pools o
SET revision = revision + 1,
    causes = CASE WHEN p.done THEN 0 ELSE causes END,
    stale_since = CASE WHEN p.done THEN NULL ELSE stale_since END,
    ages_at = CASE WHEN p.done THEN p.ages_at ELSE o.ages_at END,
    availability_version = availability_version + CASE WHEN p.shown IS NULL THEN 0 ELSE 1 END,
    shown = coalesce(p.shown::jsonb, o.shown)
FROM planned p WHERE o.pool_id = p.pool_id
