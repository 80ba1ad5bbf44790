-- When the next timer after $1 is due; null: none is set.
SELECT min(due_at) AS due_at FROM timers WHERE due_at > $1
