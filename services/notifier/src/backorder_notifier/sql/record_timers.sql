-- Due dates that have come, as updates that are decided at once. The same one again (its message was withdrawn) is
-- decided anew; one that was told is not told twice.
-- $1 timestamptz now; one array a column: $2 event_id, $3 order_id, $4 line_no, $5 kind, $6 occurred_at, $7 event,
-- $8 state, $9 reason, $10 message_id.
INSERT INTO updates (
    event_id, order_id, line_no, kind, caused_by, occurred_at, recorded_at, event, state, reason, decided_at, message_id
)
SELECT
    batch.event_id, batch.order_id, batch.line_no, batch.kind, batch.event_id, batch.occurred_at, $1::timestamptz,
    batch.event, batch.state, batch.reason, $1::timestamptz, batch.message_id
FROM unnest(
    $2::text[], $3::text[], $4::integer[], $5::text[], $6::timestamptz[], $7::jsonb[], $8::text[], $9::text[],
    $10::uuid[]
) AS batch (event_id, order_id, line_no, kind, occurred_at, event, state, reason, message_id)
ON CONFLICT (event_id) DO UPDATE
SET state = excluded.state, reason = excluded.reason, decided_at = excluded.decided_at, message_id = excluded.message_id
