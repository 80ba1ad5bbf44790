-- Invariant 8: what the journal counts as applied is as much as there are rows that it made: orders, movements of stock,
-- cancels, shipments and deliveries, one each. A supply or policy was applied once at least and at most as often as its
-- revision says. A count that was too old is ignored and kept with quantity 0; a shipment that could not be once its order
-- came was applied first, and is a dead letter by now, if it was not purged.
WITH made AS (
    SELECT (SELECT count(*) FROM orders WHERE fingerprint IS NOT NULL) + (SELECT count(*) FROM cancels) + (SELECT count(*) FROM fulfilments)
           + (SELECT count(*) FROM stock_movements WHERE kind <> 'counted' OR quantity <> 0)
           + (SELECT count(*) FROM supplies WHERE revision > 0) + (SELECT count(*) FROM policies) AS least,
           (SELECT count(*) FROM stock_movements WHERE kind = 'counted' AND quantity = 0)
           + (SELECT coalesce(sum(greatest(0, revision - 1)), 0) FROM supplies) + (SELECT coalesce(sum(revision - 1), 0) FROM policies)
           + (SELECT count(*) FROM dead_letters WHERE topic = 'fulfilment')
           + (SELECT coalesce(sum(letters), 0) FROM dead_letters_purged) AS more
), applied AS (
    SELECT coalesce(sum(applied), 0) AS messages FROM journal WHERE kind IN ('batch', 'redrive')
), found AS (
    SELECT messages NOT BETWEEN least AND least + more AS broken,
           format('%s messages were applied, which made %s rows, or up to %s more', messages, least, more) AS what
    FROM made, applied
)
SELECT count(*) AS checked, count(*) FILTER (WHERE broken) AS broken, (array_agg(what) FILTER (WHERE broken))[1:5] AS examples FROM found
