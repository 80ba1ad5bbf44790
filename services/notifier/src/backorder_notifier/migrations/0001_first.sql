-- The notifier's own database. Locks are taken in this order: cursors → orders → everything else of those orders.

-- Where each input partition goes on. The truth about what was read: offsets committed to Kafka are only a hint.
CREATE TABLE cursors (
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    PRIMARY KEY (topic, partition),
    CONSTRAINT next_offset_not_negative CHECK (next_offset >= 0)
);

-- One row an order: whom to tell, and the row that everything about an order locks. A row without known_at is a stub:
-- an event named the order before its OrderPlaced came.
CREATE TABLE orders (
    order_id text PRIMARY KEY,
    known_at timestamptz,
    customer_id text,
    email text,
    phone text,
    name text,
    locale text,
    timezone text,
    order_url text,
    delivery text,
    placed_at timestamptz,
    withheld text,                       -- why no mail can go there: no_email, invalid_email
    deliveries integer NOT NULL DEFAULT 0,        -- the last deliveries.position of this order
    outcome_version bigint NOT NULL DEFAULT 0,    -- the last version of this order on the topic notifications
    CONSTRAINT a_known_order_has_a_customer CHECK (known_at IS NULL OR customer_id IS NOT NULL)
);

-- The last version applied of each key of an input topic.
CREATE TABLE versions (
    topic text NOT NULL,
    key text NOT NULL,
    epoch bigint NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (topic, key)
);

-- Records that came before an earlier version of their key: kept as they came, until that one is here or the wait is given up.
CREATE TABLE parked (
    topic text NOT NULL,
    key text NOT NULL,
    epoch bigint NOT NULL,
    version bigint NOT NULL,
    full_topic text NOT NULL,
    partition integer NOT NULL,
    record_offset bigint NOT NULL,
    recorded_at timestamptz NOT NULL,
    record_key bytea,
    record_value bytea,
    header_names bytea[] NOT NULL,
    header_values bytea[] NOT NULL,
    parked_at timestamptz NOT NULL,
    PRIMARY KEY (topic, key, epoch, version)
);
CREATE INDEX parked_by_age ON parked (parked_at);

-- One message to one customer over one channel:
--
--   waiting_for_contact ──▶ due ──▶ sent
--          │                 │└───▶ failed       refused for good, or given up
--          └─▶ withheld ◀────┘                   never tried, for a reason
--
-- due_at is when it may be tried: now, after a backoff, or when the lease of the sender that has it ends.
CREATE TABLE deliveries (
    delivery_id uuid PRIMARY KEY,
    order_id text NOT NULL REFERENCES orders,
    position integer NOT NULL,
    kind text NOT NULL,
    channel text NOT NULL,
    state text NOT NULL,
    reason text,
    due_at timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    first_attempt_at timestamptz,
    lease uuid,
    recorded_at timestamptz NOT NULL,
    settled_at timestamptz,
    traceparent text,
    CONSTRAINT told_in_order UNIQUE (order_id, position),
    CONSTRAINT state_is_known CHECK (state IN ('waiting_for_contact', 'due', 'sent', 'failed', 'withheld')),
    CONSTRAINT settled_says_when CHECK ((settled_at IS NULL) = (state IN ('waiting_for_contact', 'due'))),
    CONSTRAINT not_told_says_why CHECK (state NOT IN ('failed', 'withheld') OR reason IS NOT NULL)
);
CREATE INDEX deliveries_due ON deliveries (due_at) WHERE state = 'due';
CREATE INDEX deliveries_open ON deliveries (order_id, position) WHERE state IN ('waiting_for_contact', 'due');
CREATE INDEX deliveries_newest ON deliveries (recorded_at DESC);

-- What is told: one row for each event that should be, once for ever.
CREATE TABLE updates (
    event_id text NOT NULL,
    channel text NOT NULL,
    delivery_id uuid NOT NULL REFERENCES deliveries,
    ordinal integer NOT NULL,
    occurred_at timestamptz NOT NULL,
    event jsonb NOT NULL,
    CONSTRAINT nobody_is_told_twice PRIMARY KEY (event_id, channel)
);
CREATE UNIQUE INDEX updates_of_delivery ON updates (delivery_id, ordinal);

-- Outcomes that wait to be published on notifications; deleted once Kafka has them. Of one order, a row with a lower
-- version always commits first (the order's row is locked), so reading by position never passes one by.
CREATE TABLE outbox (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id text NOT NULL,
    version bigint NOT NULL,
    record_key bytea NOT NULL,
    record_value bytea NOT NULL,
    header_names bytea[] NOT NULL,
    header_values bytea[] NOT NULL,
    CONSTRAINT each_version_once UNIQUE (order_id, version)
);

-- Messages that can't be used, byte for byte. They may hold contact data: masked when shown.
CREATE TABLE dead_letters (
    dead_letter_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    full_topic text NOT NULL,
    partition integer NOT NULL,
    record_offset bigint NOT NULL,
    recorded_at timestamptz NOT NULL,
    record_key bytea,
    record_value bytea,
    header_names bytea[] NOT NULL,
    header_values bytea[] NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    failed_at timestamptz NOT NULL,
    published_at timestamptz,
    redriven_at timestamptz,
    CONSTRAINT each_record_once UNIQUE (full_topic, partition, record_offset)
);
CREATE INDEX dead_letters_unpublished ON dead_letters (dead_letter_id) WHERE published_at IS NULL;

-- What only one process at a time may do (the relay). The epoch grows with every change of hands.
CREATE TABLE leases (
    name text PRIMARY KEY,
    holder uuid NOT NULL,
    epoch bigint NOT NULL,
    ends_at timestamptz NOT NULL
);
