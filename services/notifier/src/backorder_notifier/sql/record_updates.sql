-- What the deliveries tell. An event that has an update already breaks nobody_is_told_twice, and the batch with it:
-- told_events was asked under the same locks.
-- One array a column: $1 event_id, $2 channel, $3 delivery_id, $4 ordinal, $5 occurred_at, $6 event (jsonb).
INSERT INTO updates (event_id, channel, delivery_id, ordinal, occurred_at, event)
SELECT batch.event_id, batch.channel, batch.delivery_id, batch.ordinal, batch.occurred_at, batch.event
FROM unnest(
    $1::text[], $2::text[], $3::uuid[], $4::integer[], $5::timestamptz[], $6::jsonb[]
) AS batch (event_id, channel, delivery_id, ordinal, occurred_at, event)
