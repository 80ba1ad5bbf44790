-- Who was refused, what the world looked like when it was last found right, and what operators accepted.

-- How often, and when last, a process was refused that believed a partition, or the right to publish, was still its own.
ALTER TABLE cursors
    ADD COLUMN refused bigint NOT NULL DEFAULT 0,
    ADD COLUMN refused_at timestamptz;
ALTER TABLE relay
    ADD COLUMN refused bigint NOT NULL DEFAULT 0,
    ADD COLUMN refused_at timestamptz;

-- The topics that cursors and published events speak of. A topic that is deleted and made again has the name of the old
-- one, another id, and offsets that mean something else.
CREATE TABLE topics_seen (
    topic text COLLATE "C" PRIMARY KEY,         -- without prefix
    topic_id text,                              -- Kafka's, as it prints it; null: the broker did not tell
    partitions integer NOT NULL,
    first_offsets bigint[] NOT NULL,            -- of each partition, when it was seen first
    first_seen_at timestamptz NOT NULL
);

-- The server that the database lives on, a row whenever it is another: by itself no reason to stop, but it says why
-- something else is.
CREATE TABLE identity (
    identity_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    system_identifier text NOT NULL,
    timeline integer NOT NULL,
    seen_at timestamptz NOT NULL                -- first
);

-- What people decided that the service can't decide by itself: who, when and why.
CREATE TABLE interventions (
    intervention_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    by text NOT NULL,                           -- the user of the operating system
    what text NOT NULL,                         -- such as accepted_lost_messages
    why text,                                   -- in the person's own words
    detail jsonb NOT NULL
);

-- An accepted finding that changes where work goes on is an entry like any other, so that audit and replay know. what:
-- lost_messages:     {finding, gone: [{topic, partition, from, to}, …]}: never worked, the cursors go on at `to`
-- recreated_topic:   {finding, gone: [{topic, partition, from, to: null}, …]}: cursors were at `from`, they begin anew
-- restored_database: {finding, epoch}: events have this epoch from here on
ALTER TABLE journal
    DROP CONSTRAINT kind_is_known,
    ADD CONSTRAINT kind_is_known CHECK (kind IN ('batch', 'redrive', 'timer', 'planner', 'accepted'));

-- A topic that is made again counts its offsets from 0: letters of the ones before must not stand in the way.
ALTER TABLE dead_letters
    ADD COLUMN topics_ago integer NOT NULL DEFAULT 0,       -- how often its topic was made again since
    DROP CONSTRAINT a_record_is_dead_once,
    ADD CONSTRAINT a_record_is_dead_once UNIQUE (topic, partition, record_offset, topics_ago);
