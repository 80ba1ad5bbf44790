-- Dead letters by cause, by age, and with what became of driving them again.

-- Why a letter was refused at first stays; `newest_…` say why it was when it was last driven again, if it was refused again.
-- `redriven_at` stays what it was: when it was used after all. It is not open any more then.
ALTER TABLE dead_letters
    ADD COLUMN redrives integer NOT NULL DEFAULT 0,
    ADD COLUMN tried_at timestamptz,                       -- when it was last driven again, with or without success
    ADD COLUMN newest_reason text,
    ADD COLUMN newest_detail text,
    ADD COLUMN outcome text,                               -- of the last time: applied, duplicate, ignored, dead_letter
    ADD CONSTRAINT a_newest_reason_has_its_detail CHECK ((newest_reason IS NULL) = (newest_detail IS NULL));

-- Those that are old enough to go.
CREATE INDEX dead_letters_by_age ON dead_letters (failed_at);

-- Who drove a letter again, and why. It outlives the letter.
CREATE INDEX redrives_of_letter ON interventions (((detail ->> 'dead_letter_id')::bigint), intervention_id)
    WHERE what = 'dead_letter_redriven';

-- What went by age, by operators or by itself: letters that failed before that moment may be gone. No row: none ever went.
CREATE TABLE dead_letters_purged (
    only_row boolean PRIMARY KEY DEFAULT true,
    failed_before timestamptz NOT NULL,
    letters bigint NOT NULL,
    unresolved bigint NOT NULL,                            -- of these nobody had driven again with success
    CONSTRAINT one_row CHECK (only_row)
);
