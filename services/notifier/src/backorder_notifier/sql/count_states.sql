-- How many deliveries are in each state.
SELECT kind, state, coalesce(reason, '') AS reason, count(*) AS deliveries
FROM deliveries
GROUP BY kind, state, coalesce(reason, '')
ORDER BY kind, state, coalesce(reason, '')
