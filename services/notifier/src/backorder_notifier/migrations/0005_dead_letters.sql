-- Those that may be driven again, counted every few seconds: without reading what they hold, however many come at once.
CREATE INDEX dead_letters_open ON dead_letters (dead_letter_id) WHERE redriven_at IS NULL;
