-- Of what is on notifications, what this database can't have published: of an order that it doesn't know, a version that
-- it has not given yet, or the last one it gave, with other content. Ordinals count from 0.
-- One array a column: $1 text order ids, $2 bigint versions, $3 bytea SHA-256 of the values.
SELECT (batch.ordinality - 1)::integer AS ordinal
FROM unnest($1::text[], $2::bigint[], $3::bytea[]) WITH ORDINALITY AS batch (order_id, version, digest, ordinality)
LEFT JOIN orders ON orders.order_id = batch.order_id
WHERE orders.order_id IS NULL
    OR orders.outcome_version < batch.version
    OR (orders.outcome_version = batch.version AND orders.outcome_digest <> batch.digest)
ORDER BY batch.ordinality
