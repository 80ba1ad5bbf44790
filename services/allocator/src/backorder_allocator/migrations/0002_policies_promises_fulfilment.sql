-- Policies, supplies, promises, shipments and timers.

-- The newest policy of each SKU. Every pool carries the revision that was applied to it, so that a batch need not read this.
CREATE TABLE policies (
    sku text COLLATE "C" PRIMARY KEY,
    revision bigint NOT NULL,
    title text,
    backorders text NOT NULL,
    waiting_limit bigint,                       -- units that may wait, per location
    max_wait_days integer,                      -- from placed_at
    safety_stock bigint NOT NULL,
    low_stock_at bigint,
    release_at timestamptz,
    default_lead_time_days integer,
    substitutes text[] NOT NULL,
    preorder_over boolean NOT NULL,             -- its release date had passed, or its timer was taken
    fingerprint bytea NOT NULL,
    changed_at timestamptz NOT NULL,
    caused_by text NOT NULL,
    CONSTRAINT backorders_is_known CHECK (backorders IN ('allow', 'deny', 'preorder')),
    CONSTRAINT a_preorder_has_a_release_date CHECK (backorders <> 'preorder' OR release_at IS NOT NULL)
);

ALTER TABLE pools
    ADD COLUMN policy_revision bigint NOT NULL DEFAULT 0,       -- 0: the default of the settings
    ADD COLUMN safety_stock bigint NOT NULL DEFAULT 0,          -- of that policy when it was applied
    ADD COLUMN preorder_over boolean NOT NULL DEFAULT false,
    ADD COLUMN named boolean NOT NULL DEFAULT true,             -- by an order, stock or a supply; rows are made before
    ADD COLUMN low boolean NOT NULL DEFAULT false,              -- LowStock was said, and not above the mark since
    ADD COLUMN queue_end timestamptz,                           -- no line that waits is ranked behind this
    ADD COLUMN revision bigint NOT NULL DEFAULT 0,              -- grows whenever the pool, its queue or its supplies change
    ADD COLUMN causes integer NOT NULL DEFAULT 0,               -- bits: what may have moved promises since they were planned
    ADD COLUMN stale_since timestamptz,                         -- since when promises or availability may differ from what was published
    ADD COLUMN availability_version bigint NOT NULL DEFAULT 0,
    ADD COLUMN shown jsonb,                                     -- availability as last published: status, available, waiting, next_promise_at
    ADD COLUMN ages_at timestamptz;                             -- when that has to be looked at again though nothing happened
ALTER TABLE pools ALTER COLUMN named SET DEFAULT false;
-- What the planner has to look at, the longest waiting first.
CREATE INDEX pools_stale ON pools (stale_since) WHERE stale_since IS NOT NULL;
CREATE INDEX pools_aging ON pools (ages_at) WHERE ages_at IS NOT NULL;

-- What suppliers announced. A row with revision 0: only a receipt has named it yet.
CREATE TABLE supplies (
    sku text COLLATE "C" NOT NULL,
    supply_id text COLLATE "C" NOT NULL,
    revision bigint NOT NULL,
    pool_id bigint,                             -- null until announced
    quantity bigint NOT NULL,                   -- announced in total
    received bigint NOT NULL,                   -- by all receipts that name it
    expected_at timestamptz,
    first_expected_at timestamptz,              -- lateness is measured against it
    supplier text,
    cancelled boolean NOT NULL,
    overdue boolean NOT NULL,                   -- said so for this revision
    fingerprint bytea NOT NULL,
    to_come bigint GENERATED ALWAYS AS (CASE WHEN cancelled THEN 0 ELSE greatest(0, quantity - received) END) STORED,
    PRIMARY KEY (sku, supply_id),
    CONSTRAINT received_not_negative CHECK (received >= 0),
    CONSTRAINT an_announced_supply_has_a_date CHECK (pool_id IS NULL OR expected_at IS NOT NULL)
) WITH (fillfactor = 85);
CREATE INDEX supplies_to_come ON supplies (pool_id, expected_at, supply_id) WHERE to_come > 0;

ALTER TABLE orders
    ADD COLUMN escalates_at timestamptz,        -- when a complete order becomes split; null: no timer was set
    ADD COLUMN escalated boolean NOT NULL DEFAULT false;

ALTER TABLE lines
    ADD COLUMN promised_at timestamptz,         -- as last published
    ADD COLUMN first_promised_at timestamptz,
    ADD COLUMN lead_at timestamptz,             -- the date by lead time, fixed when first computed
    ADD COLUMN lead_days integer,               -- the lead time it was computed from
    ADD CONSTRAINT a_promise_has_a_first CHECK (promised_at IS NULL OR first_promised_at IS NOT NULL);
-- Who loses after those that hold units: without these, which may be as many as a pre-order has.
DROP INDEX lines_allocated;
CREATE INDEX lines_released ON lines (pool_id, ranked_at, order_id, line_no) WHERE quantity_released > 0;

-- Units that wait, by pool and day of rank (UTC): what is ahead of a place without reading the lines ahead.
CREATE TABLE queue_days (
    pool_id bigint NOT NULL,
    day date NOT NULL,
    waiting bigint NOT NULL,
    PRIMARY KEY (pool_id, day),
    CONSTRAINT waiting_of_a_day_not_negative CHECK (waiting >= 0)
) WITH (fillfactor = 50);

-- Shipments and deliveries that were taken. One that came before its order keeps its record until the order comes.
CREATE TABLE fulfilments (
    kind text NOT NULL,
    shipment_id text COLLATE "C" NOT NULL,
    order_id text COLLATE "C" NOT NULL,
    body jsonb NOT NULL,                        -- the message
    fingerprint bytea NOT NULL,
    early boolean NOT NULL,                     -- it came before its order
    waits boolean NOT NULL,                     -- its order has not come yet
    happened_at timestamptz NOT NULL,
    batch_id bigint NOT NULL,                   -- with ordinal: in which order they came
    ordinal integer NOT NULL,
    topic text COLLATE "C",                     -- the record, while it waits: to be kept if it turns out impossible
    partition integer,
    record_offset bigint,
    record_at timestamptz,
    key bytea,
    value bytea,
    header_names bytea[],
    header_values bytea[],
    PRIMARY KEY (order_id, shipment_id, kind),
    CONSTRAINT fulfilment_kind_is_known CHECK (kind IN ('shipped', 'delivered'))
);
CREATE INDEX fulfilments_that_wait ON fulfilments (order_id, batch_id, ordinal) WHERE waits;

-- What happens by itself at a time. Taken one by one, each in its own transaction, found without locks.
CREATE TABLE timers (
    kind text NOT NULL,
    subject text COLLATE "C" NOT NULL,          -- escalate: order id; release: SKU; overdue: SKU
    supply_id text COLLATE "C" NOT NULL DEFAULT '',
    due_at timestamptz NOT NULL,
    PRIMARY KEY (kind, subject, supply_id),
    CONSTRAINT timer_kind_is_known CHECK (kind IN ('escalate', 'release', 'overdue'))
);
CREATE INDEX timers_due ON timers (due_at, kind, subject, supply_id);

-- The rules in force (settings that decide): replay uses those of each journal entry.
CREATE TABLE rules (
    rules_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    body jsonb NOT NULL,
    fingerprint bytea NOT NULL UNIQUE
);

ALTER TABLE journal
    ADD COLUMN rules_id integer,
    DROP CONSTRAINT kind_is_known,
    ADD CONSTRAINT kind_is_known CHECK (kind IN ('batch', 'redrive', 'timer', 'planner'));
ALTER TABLE events ADD COLUMN why jsonb;        -- what bound the decision; not published

-- What a database of the first version already has.
INSERT INTO queue_days
SELECT pool_id, (ranked_at AT TIME ZONE 'UTC')::date, sum(quantity_waiting) FROM lines WHERE quantity_waiting > 0 GROUP BY 1, 2;
UPDATE pools p SET queue_end = q.queue_end
FROM (SELECT pool_id, max(ranked_at) AS queue_end FROM lines WHERE quantity_waiting > 0 GROUP BY pool_id) q
WHERE q.pool_id = p.pool_id;
INSERT INTO supplies (sku, supply_id, revision, quantity, received, cancelled, overdue, fingerprint)
SELECT p.sku, m.supply_id, 0, 0, sum(m.quantity), false, false, ''
FROM stock_movements m JOIN pools p USING (pool_id) WHERE m.supply_id IS NOT NULL GROUP BY p.sku, m.supply_id;
-- Dates and availability of all pools are to be published.
UPDATE pools SET stale_since = clock_timestamp(), causes = CASE WHEN waiting > 0 THEN 1 << 10 ELSE 0 END;  -- recomputed
