-- Which database and schema a connection works in, and the first tables that are there. No locks.
SELECT current_schema()::text AS schema,
       pg_postmaster_start_time() AS server,
       (SELECT oid FROM pg_database WHERE datname = current_database()) AS database,
       ARRAY(SELECT relname::text FROM pg_class
             WHERE relnamespace = to_regnamespace(quote_ident(current_schema())) AND relkind IN ('r', 'p')
             ORDER BY relname LIMIT 3) AS tables
