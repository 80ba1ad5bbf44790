-- What was decided about events, by kind and reason. Events of no kind are counted too: they are why nothing was said.
SELECT kind, state, reason, count(*)::integer AS updates
FROM updates
GROUP BY kind, state, reason
ORDER BY state, kind NULLS LAST, reason NULLS FIRST
