-- What happened, in the order of applying: to be decided on (pending), or decided. Their orders are locked, and
-- known_updates was asked before: an id that has an update already breaks the batch.
-- $1 timestamptz now; one array a column: $2 event_id, $3 order_id, $4 topic, $5 line_no, $6 kind, $7 caused_by,
-- $8 occurred_at, $9 recorded_at, $10 event (jsonb), $11 traceparent, $12 state, $13 reason.
INSERT INTO updates (
    event_id, order_id, topic, line_no, kind, caused_by, occurred_at, recorded_at, event, traceparent, state, reason,
    decided_at
)
SELECT
    batch.event_id, batch.order_id, batch.topic, batch.line_no, batch.kind, batch.caused_by, batch.occurred_at,
    batch.recorded_at, batch.event, batch.traceparent, batch.state, batch.reason,
    CASE WHEN batch.state <> 'pending' THEN $1::timestamptz END
FROM unnest(
    $2::text[], $3::text[], $4::text[], $5::integer[], $6::text[], $7::text[], $8::timestamptz[], $9::timestamptz[],
    $10::jsonb[], $11::text[], $12::text[], $13::text[]
) WITH ORDINALITY AS batch (
    event_id, order_id, topic, line_no, kind, caused_by, occurred_at, recorded_at, event, traceparent, state, reason,
    number
)
ORDER BY batch.number
