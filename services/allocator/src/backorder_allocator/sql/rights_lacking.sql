-- What `run` needs and the user may not do, in words. No rights are needed.
SELECT format('%s %s', lower(right_needed), relname) AS what
FROM pg_class, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS r (right_needed)
WHERE relnamespace = to_regnamespace(quote_ident(current_schema())) AND relkind IN ('r', 'p')
      AND relname NOT IN ('schema_migrations') AND NOT has_table_privilege(oid, right_needed)
ORDER BY relname, right_needed
LIMIT 20
