-- When the next order is to be decided on. A stub, whose OrderPlaced has not come, is nobody's to tell.
SELECT min(tell_at) AS tell_at FROM orders WHERE tell_at IS NOT NULL AND known_at IS NOT NULL
