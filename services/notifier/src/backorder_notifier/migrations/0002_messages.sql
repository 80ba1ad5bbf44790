-- From single events to messages about orders. Locks are taken in this order: cursors → customers → orders → everything
-- else of those orders.
--
-- The topics are read again from their start: what the release before kept is too little to know how an order stands.
-- What it told is recognised by the ids of the events and not told again, what it had still to tell is told now, and of
-- the kinds that it did not know nothing older than the upgrade is told (reason before_upgrade), except dates that
-- differ from the one told.

-- One row a customer: how to reach them, and what they want. A row with revision 0 has no ContactChanged yet.
-- …_at: when the customer said so, to be compared with what an order says.
CREATE TABLE customers (
    customer_id text PRIMARY KEY,
    revision bigint NOT NULL DEFAULT 0,
    email text,
    email_at timestamptz,
    phone text,
    phone_at timestamptz,
    name text,
    name_at timestamptz,
    locale text,
    locale_at timestamptz,
    timezone text,
    timezone_at timestamptz,
    channels text[],                               -- null: never said
    optional_kinds boolean NOT NULL DEFAULT true,
    unsubscribe_token text UNIQUE,
    unsubscribed_at timestamptz,                   -- by the link in a message
    forgotten_at timestamptz                       -- contact data recorded before this is not taken again
);

ALTER TABLE orders DROP COLUMN withheld;
ALTER TABLE orders RENAME COLUMN deliveries TO messages;   -- the last messages.position of this order
ALTER TABLE orders
    ADD COLUMN dossier jsonb NOT NULL DEFAULT '{}',        -- what is known of the order: backorder_notifier.dossier
    ADD COLUMN told jsonb NOT NULL DEFAULT '{}',           -- what the customer was last told
    ADD COLUMN tell_at timestamptz,                        -- when to decide next what to tell; null: nothing to decide
    ADD COLUMN purged_at timestamptz;                      -- closed for so long that its messages and contact were removed
CREATE INDEX orders_to_tell ON orders (tell_at) WHERE tell_at IS NOT NULL;
CREATE INDEX orders_of_customer ON orders (customer_id);
CREATE INDEX orders_to_purge ON orders (known_at) WHERE purged_at IS NULL AND tell_at IS NULL;

-- How the customer of an order is reached: of what the order says and what the customer says, field by field, what was
-- said last. Put together when read: so it doesn't matter which topic is read first, and a ContactChanged touches one
-- row however many orders the customer has. Addresses are read from here and nowhere else.
CREATE FUNCTION said_last(of_order text, placed_at timestamptz, of_customer text, said_at timestamptz) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN CASE WHEN of_order IS NULL OR said_at > placed_at THEN coalesce(of_customer, of_order) ELSE of_order END;

CREATE VIEW contacts AS
SELECT
    said.*,
    coalesce(said_locale, 'en') AS locale,
    coalesce(said_timezone, 'UTC') AS timezone,
    forgotten_at IS NOT NULL AND email IS NULL AND phone IS NULL AS forgotten   -- and nothing was said since
FROM (
    SELECT
        orders.order_id,
        orders.customer_id,
        said_last(orders.email, orders.placed_at, customers.email, customers.email_at) AS email,
        said_last(orders.phone, orders.placed_at, customers.phone, customers.phone_at) AS phone,
        said_last(orders.name, orders.placed_at, customers.name, customers.name_at) AS name,
        said_last(orders.locale, orders.placed_at, customers.locale, customers.locale_at) AS said_locale,
        said_last(orders.timezone, orders.placed_at, customers.timezone, customers.timezone_at) AS said_timezone,
        customers.channels,
        coalesce(customers.optional_kinds, true) AS optional_kinds,
        customers.unsubscribe_token,
        customers.forgotten_at
    FROM orders
    LEFT JOIN customers USING (customer_id)
) AS said;

-- How far behind reading is: telling waits until what has happened since is read, so that after an outage, or with a
-- backlog, one message says how things stand.
ALTER TABLE cursors
    ADD COLUMN told_below bigint NOT NULL DEFAULT 0,       -- the release before 0002 had read, and told, so far
    ADD COLUMN moved_at timestamptz,                       -- when the last batch was taken
    ADD COLUMN behind_since timestamptz;                   -- since when batches are old; null: they are new

-- When the notifier came to know more kinds. No row: it began with all of them.
CREATE TABLE upgrades (
    name text PRIMARY KEY,
    upgraded_at timestamptz NOT NULL
);
INSERT INTO upgrades (name, upgraded_at)
SELECT '0002_messages', current_setting('backorder.now')::timestamptz
WHERE EXISTS (SELECT FROM cursors);

ALTER TABLE deliveries RENAME TO old_deliveries;
ALTER TABLE updates RENAME TO old_updates;
ALTER INDEX told_in_order RENAME TO old_told_in_order;
ALTER INDEX deliveries_pkey RENAME TO old_deliveries_pkey;
ALTER INDEX deliveries_due RENAME TO old_deliveries_due;
ALTER INDEX deliveries_open RENAME TO old_deliveries_open;
ALTER INDEX deliveries_newest RENAME TO old_deliveries_newest;
ALTER INDEX updates_of_delivery RENAME TO old_updates_of_delivery;

-- One message to one customer about one order, over one or more channels: what it tells, decided once.
CREATE TABLE messages (
    message_id uuid PRIMARY KEY,                           -- made of order, kind and what it tells: once for ever
    order_id text NOT NULL REFERENCES orders,
    customer_id text NOT NULL,
    position integer NOT NULL,
    kind text NOT NULL,
    content jsonb NOT NULL,                                -- backorder_notifier.content; no contact data
    told jsonb NOT NULL,                                   -- orders.told once this is accepted
    about text[] NOT NULL,                                 -- ids of the events told
    occurred_at timestamptz NOT NULL,                      -- of the oldest of them
    composed_at timestamptz NOT NULL,
    traceparent text,
    CONSTRAINT told_in_order UNIQUE (order_id, position)
);
CREATE INDEX messages_of_customer ON messages (customer_id, composed_at);
CREATE INDEX messages_newest ON messages (composed_at DESC);

-- One event (or due date) that may concern a customer, and what was decided about it, with the reason:
--
--   pending ──▶ told          in the message
--        ├────▶ superseded    overtaken; the message, if any, is the one that says how things stand
--        └────▶ not_told      the reason says why
--
-- A message withdrawn before it was sent gives its events back: told → pending.
CREATE TABLE updates (
    event_id text PRIMARY KEY,                             -- or timer:<kind>:<order_id>:<…>
    ordinal bigint GENERATED ALWAYS AS IDENTITY,           -- of one order: the order of applying
    order_id text NOT NULL REFERENCES orders,
    topic text,                                            -- that brought it, without prefix; null: no topic, a date
    line_no integer,
    kind text,                                             -- null: of no kind that customers are told
    caused_by text NOT NULL,
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    event jsonb NOT NULL,
    traceparent text,
    state text NOT NULL,
    reason text,
    decided_at timestamptz,
    message_id uuid REFERENCES messages,
    CONSTRAINT state_is_known CHECK (state IN ('pending', 'told', 'superseded', 'not_told')),
    CONSTRAINT decided_says_when CHECK ((decided_at IS NULL) = (state = 'pending')),
    CONSTRAINT pending_is_of_a_kind CHECK (state <> 'pending' OR kind IS NOT NULL),
    CONSTRAINT not_told_says_why CHECK (state NOT IN ('superseded', 'not_told') OR reason IS NOT NULL)
);
CREATE INDEX updates_pending ON updates (order_id, ordinal) WHERE state = 'pending';
CREATE INDEX updates_of_order ON updates (order_id, ordinal);
CREATE INDEX updates_of_message ON updates (message_id) WHERE message_id IS NOT NULL;

-- One message over one channel:
--
--   due ──▶ sent
--    ├────▶ failed        refused for good, or given up
--    └────▶ superseded    withdrawn for a newer message before it was accepted
--   withheld              never tried, for a reason
--
-- due_at is when it may be tried: now, after quiet hours, after a backoff, or when the lease of its sender ends.
CREATE TABLE deliveries (
    delivery_id uuid PRIMARY KEY,
    message_id uuid NOT NULL REFERENCES messages,
    order_id text NOT NULL,
    channel text NOT NULL,
    state text NOT NULL,
    reason text,
    due_at timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    in_doubt integer NOT NULL DEFAULT 0,                   -- tries of which nobody knows whether they were accepted
    first_attempt_at timestamptz,
    lease uuid,
    recorded_at timestamptz NOT NULL,
    settled_at timestamptz,
    CONSTRAINT a_message_once_a_channel UNIQUE (message_id, channel),
    CONSTRAINT delivery_state_is_known CHECK (state IN ('due', 'sent', 'failed', 'withheld', 'superseded')),
    CONSTRAINT settled_says_when CHECK ((settled_at IS NULL) = (state = 'due')),
    CONSTRAINT not_sent_says_why CHECK (state NOT IN ('failed', 'withheld', 'superseded') OR reason IS NOT NULL)
);
CREATE INDEX deliveries_due ON deliveries (channel, due_at) WHERE state = 'due';
CREATE INDEX deliveries_leased ON deliveries (channel, due_at) WHERE lease IS NOT NULL;
CREATE INDEX deliveries_open ON deliveries (order_id) WHERE state = 'due';
CREATE INDEX deliveries_newest ON deliveries (recorded_at DESC);

-- Every try, for whoever asks why. Codes only, no address.
CREATE TABLE attempts (
    delivery_id uuid NOT NULL REFERENCES deliveries,
    attempt integer NOT NULL,
    at timestamptz NOT NULL,
    outcome text NOT NULL,
    reason text,
    PRIMARY KEY (delivery_id, attempt)
);

-- Addresses that a provider said are dead, or that a person named.
CREATE TABLE suppressions (
    channel text NOT NULL,
    address text NOT NULL,
    reason text NOT NULL,
    suppressed_at timestamptz NOT NULL,
    PRIMARY KEY (channel, address)
);

-- What all processes together may hand to a provider: tokens by time, and how many are in flight.
CREATE TABLE providers (
    channel text PRIMARY KEY,
    tokens double precision NOT NULL,
    refilled_at timestamptz NOT NULL
);

-- Domains whose server asked us to wait.
CREATE TABLE domain_backoffs (
    domain text PRIMARY KEY,
    refusals integer NOT NULL,
    until timestamptz NOT NULL
);

-- What SKUs are called, and which are in stock where.
CREATE TABLE products (
    sku text PRIMARY KEY,
    revision bigint NOT NULL,
    title text
);
CREATE TABLE availability (
    location text NOT NULL,
    sku text NOT NULL,
    epoch bigint NOT NULL,
    version bigint NOT NULL,
    in_stock boolean NOT NULL,
    PRIMARY KEY (location, sku)
);

-- Carry over what was told, and what was still to be told. Whatever the release before withheld or gave up stays untold.
INSERT INTO updates (
    event_id, order_id, topic, line_no, kind, caused_by, occurred_at, recorded_at, event, traceparent, state, reason,
    decided_at
)
SELECT
    old_updates.event_id, old_deliveries.order_id, 'backorders', (old_updates.event ->> 'line_no')::integer,
    old_deliveries.kind, old_updates.event ->> 'caused_by', old_updates.occurred_at, old_deliveries.recorded_at,
    old_updates.event, old_deliveries.traceparent,
    CASE
        WHEN old_deliveries.state = 'sent' THEN 'told'
        WHEN old_deliveries.state IN ('failed', 'withheld') THEN 'not_told'
        ELSE 'pending'
    END,
    CASE WHEN old_deliveries.state IN ('failed', 'withheld') THEN old_deliveries.reason END,
    old_deliveries.settled_at
FROM old_updates
JOIN old_deliveries USING (delivery_id)
ORDER BY old_deliveries.order_id, old_deliveries.position, old_updates.ordinal;
DROP TABLE old_updates;
DROP TABLE old_deliveries;
UPDATE orders SET messages = 0;

-- Every known customer has a row, and a token of 22 characters as the service makes them (122 random bits).
INSERT INTO customers (customer_id, unsubscribe_token)
SELECT
    customer_id,
    rtrim(translate(encode(uuid_send(gen_random_uuid()), 'base64'), '+/', '-_'), '=')
FROM orders
WHERE customer_id IS NOT NULL
GROUP BY customer_id;

UPDATE cursors SET told_below = next_offset, next_offset = 0;
DELETE FROM versions;
DELETE FROM parked;
