-- name: effect_tables
-- The tables whose rows are effects, and the effect's name. A job that has been done lies in another table.
SELECT n.nspname, c.relname,
       CASE WHEN n.nspname = 'workhorse' AND c.relname = 'finished_jobs' THEN 'workhorse.jobs'
            ELSE n.nspname || '.' || c.relname END
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p')
  AND NOT c.relispartition
  AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND (n.nspname <> 'workhorse' OR c.relname IN ('events', 'jobs', 'finished_jobs'))
ORDER BY 1, 2

-- name: others
-- Who else is connected to this database.
SELECT pid, application_name, state
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
