-- What a start compares the world with, and who was refused because another had taken over.

-- The input topics as they were when they were first read, with their prefix: a topic that was deleted and made again has
-- another id, and one whose partitions were changed another number of them.
CREATE TABLE topics_seen (
    topic text PRIMARY KEY,
    topic_id uuid NOT NULL,
    partitions integer NOT NULL,
    first_seen_at timestamptz NOT NULL,
    CONSTRAINT a_topic_has_partitions CHECK (partitions > 0)
);

-- Which database this is; one row. `epoch` is that of what is published: higher after a database that was restored from
-- a backup was accepted. System and timeline as last seen at a start; null where the server doesn't say.
CREATE TABLE identity (
    only_row boolean PRIMARY KEY DEFAULT true,
    epoch integer NOT NULL DEFAULT 1,
    system_identifier text,
    timeline integer,
    seen_at timestamptz,
    CONSTRAINT one_row CHECK (only_row),
    CONSTRAINT epoch_counts_from_one CHECK (epoch > 0)
);
INSERT INTO identity DEFAULT VALUES;

-- Which process moved a position last; how often one was refused that believed the partition to be still its own, and
-- when that was last.
ALTER TABLE cursors
    ADD COLUMN moved_by uuid,
    ADD COLUMN refused bigint NOT NULL DEFAULT 0,
    ADD COLUMN refused_at timestamptz;

-- The same for who published while another had the lease.
ALTER TABLE leases
    ADD COLUMN refused bigint NOT NULL DEFAULT 0,
    ADD COLUMN refused_at timestamptz;

-- What people did, now also what is not about one order: a finding at a start that was accepted, with what was found.
ALTER TABLE interventions
    ALTER COLUMN order_id DROP NOT NULL,
    ADD COLUMN detail jsonb;

-- SHA-256 of the last outcome given to subscribers, so that a start can see whether what is published is what is known
-- here; null before the first one since this migration.
ALTER TABLE orders ADD COLUMN outcome_digest bytea;

-- A topic that is made again counts its offsets from 0 again. 0: of the topic as it is now; 1, 2, …: it was made again so
-- many times since.
ALTER TABLE dead_letters
    ADD COLUMN topics_ago integer NOT NULL DEFAULT 0,
    DROP CONSTRAINT each_record_once,
    ADD CONSTRAINT each_record_once UNIQUE (full_topic, partition, record_offset, topics_ago);
