-- Moves the relay's position, if it is still ours. $1 epoch, $2 seq, $3 journal number. No row: the lease was lost.
UPDATE relay SET seq = $2, journal = $3 WHERE epoch = $1 AND seq <= $2 RETURNING seq
