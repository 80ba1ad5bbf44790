-- What waits for longest, asked every few seconds: without reading through everything that was sent since.
CREATE INDEX deliveries_oldest ON deliveries (recorded_at) WHERE state = 'due';
