-- A dead letter that is driven again, locked after the pools and orders that it touches, as a shipment that waited in vain locks
-- its letter last, too. Of two operators at once the second finds it resolved. $1 id.
SELECT resolved_at FROM dead_letters WHERE dead_letter_id = $1 FOR UPDATE
