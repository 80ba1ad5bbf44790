-- What people changed by a command, for whoever asks later: who, when and why. Kept as long as the order is.
CREATE TABLE interventions (
    intervention_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    by text NOT NULL,                                      -- the user of the operating system
    what text NOT NULL,                                    -- resent, brought_forward, recomposed, sent_again
    order_id text NOT NULL,
    delivery_id uuid,                                      -- null: the whole order
    message_id uuid,                                       -- sent_again: the copy that was made
    note text                                              -- in the person's own words
);
CREATE INDEX interventions_of_order ON interventions (order_id, at);
