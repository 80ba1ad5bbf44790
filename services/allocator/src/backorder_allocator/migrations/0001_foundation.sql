-- The allocator's tables. Names of constraints are sentences: operators read them when one is violated.
--
-- There are no foreign keys: every row is written set-wise under the locks of its pool and order, a key check would
-- cost one look-up for each line, and `audit` compares what a foreign key would. Ids are compared byte by byte (collate "C"), which is
-- the order that ranks tie in.

-- One (SKU, location): stock and queue, in units.
CREATE TABLE pools (
    pool_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sku text COLLATE "C" NOT NULL,
    location text COLLATE "C" NOT NULL,
    on_hand bigint NOT NULL DEFAULT 0,          -- may be negative: a shipment booked before its receipt
    allocated bigint NOT NULL DEFAULT 0,        -- allocated and not yet shipped
    waiting bigint NOT NULL DEFAULT 0,
    counted_at timestamptz,                     -- occurred_at of the newest count
    CONSTRAINT a_pool_has_one_row UNIQUE (sku, location),
    CONSTRAINT allocated_not_negative CHECK (allocated >= 0),
    CONSTRAINT waiting_not_negative CHECK (waiting >= 0),
    CONSTRAINT no_unit_is_promised_twice CHECK (allocated <= greatest(0, on_hand))
) WITH (fillfactor = 50);                       -- counters change with every batch: room for heap-only updates

-- An order. A row without placed_at is a stub: only a cancel has named the order yet.
CREATE TABLE orders (
    order_id text COLLATE "C" PRIMARY KEY,
    placed_at timestamptz,
    ranked_at timestamptz,
    head_start interval NOT NULL DEFAULT '0',
    head_start_reason text,
    delivery text NOT NULL DEFAULT 'split',
    customer_id text,
    fingerprint bytea,                          -- of the content: tells a repeat from a conflict
    release_no integer NOT NULL DEFAULT 0,      -- the last release
    allocations_version bigint NOT NULL DEFAULT 0,
    backorders_version bigint NOT NULL DEFAULT 0,
    CONSTRAINT delivery_is_split_or_complete CHECK (delivery IN ('split', 'complete')),
    CONSTRAINT a_placed_order_is_ranked CHECK ((placed_at IS NULL) = (ranked_at IS NULL))
) WITH (fillfactor = 85);

CREATE TABLE lines (
    order_id text COLLATE "C" NOT NULL,
    line_no integer NOT NULL,
    pool_id bigint NOT NULL,
    ranked_at timestamptz NOT NULL,             -- of the order, here for the queue's index
    quantity_ordered integer NOT NULL,
    quantity_allocated integer NOT NULL,
    quantity_waiting integer NOT NULL,
    quantity_cancelled integer NOT NULL,
    quantity_rejected integer NOT NULL,
    quantity_shipped integer NOT NULL,
    quantity_released integer NOT NULL,         -- released and neither revoked nor shipped; the sum of releases
    releases jsonb NOT NULL,                    -- [[release_no, units], …], oldest first
    PRIMARY KEY (order_id, line_no),
    CONSTRAINT quantities_add_up
        CHECK (quantity_ordered = quantity_allocated + quantity_waiting + quantity_cancelled + quantity_rejected),
    CONSTRAINT quantities_not_negative
        CHECK (least(quantity_allocated, quantity_waiting, quantity_cancelled, quantity_rejected, quantity_shipped, quantity_released) >= 0),
    CONSTRAINT shipped_or_released_is_allocated CHECK (quantity_shipped + quantity_released <= quantity_allocated)
) WITH (fillfactor = 85);

-- The queue of a pool in rank order.
CREATE INDEX lines_waiting ON lines (pool_id, ranked_at, order_id, line_no) WHERE quantity_waiting > 0;
-- Who loses when stock is lost: read backwards, held units first. Few lines hold units.
CREATE INDEX lines_held ON lines (pool_id, ranked_at, order_id, line_no)
    WHERE quantity_allocated > quantity_shipped + quantity_released;
CREATE INDEX lines_allocated ON lines (pool_id, ranked_at, order_id, line_no) WHERE quantity_allocated > quantity_shipped;

-- Everything that ever changed on hand: on_hand of a pool is the sum of these.
CREATE TABLE stock_movements (
    pool_id bigint NOT NULL,
    kind text NOT NULL,
    document_id text COLLATE "C" NOT NULL,
    quantity bigint NOT NULL,                   -- signed change of on hand; 0 for a count that was too old
    supply_id text,
    supplier text,
    fingerprint bytea NOT NULL,
    moved_at timestamptz NOT NULL,
    caused_by text NOT NULL,
    PRIMARY KEY (pool_id, kind, document_id),
    CONSTRAINT kind_is_known CHECK (kind IN ('received', 'adjusted', 'counted'))
);

-- Cancels that were taken, by message id.
CREATE TABLE cancels (
    id text COLLATE "C" PRIMARY KEY,
    order_id text COLLATE "C" NOT NULL,
    body jsonb NOT NULL,                        -- the message
    early boolean NOT NULL,                     -- it came before its order
    fingerprint bytea NOT NULL,
    cancelled_at timestamptz NOT NULL
);
CREATE INDEX cancels_of_order ON cancels (order_id);

-- How far each input partition is done. Locked and compared in the transaction of the work.
CREATE TABLE cursors (
    topic text COLLATE "C" NOT NULL,            -- without prefix
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50);

-- The head of the log, one row, held only for the journal row and the COMMIT.
CREATE TABLE log_head (
    singleton boolean PRIMARY KEY DEFAULT true,
    seq bigint NOT NULL,                        -- of the newest event
    journal bigint NOT NULL,                    -- number of the newest transaction
    epoch integer NOT NULL,                     -- of event ids; higher after a restored database
    CONSTRAINT there_is_one_head CHECK (singleton)
) WITH (fillfactor = 50);
INSERT INTO log_head (seq, journal, epoch) VALUES (0, 0, 1);

CREATE SEQUENCE batch_ids;

-- One row for each transaction, in the order they happened.
CREATE TABLE journal (
    number bigint PRIMARY KEY,
    batch_id bigint NOT NULL,
    kind text NOT NULL,
    what jsonb NOT NULL,                        -- batch: [{topic, partition, from, to}, …] in the order worked; redrive: {dead_letter}
    at timestamptz NOT NULL,
    first_seq bigint NOT NULL,                  -- seq of the event with ordinal 0
    event_count integer NOT NULL,
    applied integer NOT NULL,
    duplicates integer NOT NULL,
    ignored integer NOT NULL,
    dead_letters integer NOT NULL,
    CONSTRAINT kind_is_known CHECK (kind IN ('batch', 'redrive')),
    CONSTRAINT a_batch_is_one_entry UNIQUE (batch_id)
);

-- The event log: the audit trail and the outbox. seq of an event is first_seq of its batch + ordinal.
CREATE TABLE events (
    batch_id bigint NOT NULL,
    ordinal integer NOT NULL,
    topic text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    id uuid NOT NULL,
    type text NOT NULL,
    occurred_at timestamptz NOT NULL,
    caused_by text NOT NULL,
    traceparent text,
    value text NOT NULL,                        -- the message as it is published
    PRIMARY KEY (batch_id, ordinal),
    CONSTRAINT a_version_is_given_once UNIQUE (key, topic, version)
);

-- The last version of each key of stock-alerts: pools of one SKU are decided in different transactions.
CREATE TABLE alert_versions (
    sku text COLLATE "C" PRIMARY KEY,
    version bigint NOT NULL
) WITH (fillfactor = 50);

-- Messages that can never be used, byte for byte. Null stays null.
CREATE TABLE dead_letters (
    dead_letter_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text COLLATE "C" NOT NULL,            -- without prefix
    partition integer NOT NULL,
    record_offset bigint NOT NULL,
    record_at timestamptz NOT NULL,             -- the record's timestamp: now, when it is driven again
    key bytea,
    value bytea,
    header_names bytea[] NOT NULL,
    header_values bytea[] NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    failed_at timestamptz NOT NULL,
    published boolean NOT NULL DEFAULT false,
    redrives integer NOT NULL DEFAULT 0,
    resolved_at timestamptz,                    -- when driving it again succeeded
    outcome text,                               -- of that
    CONSTRAINT a_record_is_dead_once UNIQUE (topic, partition, record_offset)
);
CREATE INDEX dead_letters_to_publish ON dead_letters (dead_letter_id) WHERE NOT published;

-- Who publishes the log, and how far it is. One row.
CREATE TABLE relay (
    singleton boolean PRIMARY KEY DEFAULT true,
    holder text,
    epoch bigint NOT NULL,                      -- grows with every new holder; checked whenever the position moves
    lease_until timestamptz NOT NULL,
    seq bigint NOT NULL,                        -- every event up to here is on its topic
    journal bigint NOT NULL,                    -- number of the journal entry that holds the next event, or a smaller one
    CONSTRAINT there_is_one_relay CHECK (singleton)
) WITH (fillfactor = 50);
INSERT INTO relay (epoch, lease_until, seq, journal) VALUES (0, '1970-01-01 00:00:00Z', 0, 0);
