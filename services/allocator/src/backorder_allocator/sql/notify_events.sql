-- Wakes the relay when this transaction commits; one for each batch.
NOTIFY backorder_events
