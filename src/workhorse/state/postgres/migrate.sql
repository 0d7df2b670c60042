-- name: limit_session
-- A server that notices that its client is gone stops what it is at, and frees its locks: within seconds if the process
-- was killed (PostgreSQL 14 and newer), within half a minute if its machine was.
SELECT set_config(s.name, w.value, false)
  FROM pg_settings s
  JOIN (VALUES ('client_connection_check_interval', '2s'), ('tcp_keepalives_idle', '15'),
               ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '3')) AS w (name, value) USING (name)

-- name: forget_session
-- What a migration has set for itself is not for the next one.
SET SESSION AUTHORIZATION DEFAULT

-- name: reset_session
RESET ALL

-- name: try_lock
-- Asked again and again, never waited for: whoever waits inside of a statement has a snapshot, and CREATE INDEX
-- CONCURRENTLY of the one who migrates waits for that one in turn. The lock falls with the session.
SELECT pg_try_advisory_lock(%s)

-- name: unlock
SELECT pg_advisory_unlock(%s)

-- name: has_lock
-- Whether this very server process still has it: behind a pooler in transaction mode it is another's.
SELECT EXISTS (SELECT FROM pg_locks l
                WHERE l.locktype = 'advisory' AND l.granted AND l.pid = pg_backend_pid() AND l.objsubid = 1
                  AND l.classid::bigint = %s AND l.objid::bigint = %s)

-- name: holder
-- Who has the lock of migrations, and for how long, in seconds, this client has been connected.
SELECT l.pid, coalesce(a.application_name, ''), coalesce(host(a.client_addr), 'this machine'),
       coalesce(extract(epoch FROM now() - a.backend_start)::int, 0)
  FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.classid::bigint = %s AND l.objid::bigint = %s
   AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())

-- name: oldest_transactions
-- Who may have kept a migration from its lock: the oldest open transactions here but this one, oldest first.
SELECT a.pid, coalesce(a.application_name, ''), coalesce(a.state, ''),
       extract(epoch FROM clock_timestamp() - a.xact_start)::int
  FROM pg_stat_activity a
 WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.xact_start IS NOT NULL
 ORDER BY a.xact_start LIMIT 3

-- name: books
-- What of the migrator's own tables is there: the schema, the ledger, its later column, the progress.
SELECT to_regnamespace('workhorse') IS NOT NULL, to_regclass('workhorse.migrations') IS NOT NULL,
       EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = to_regclass('workhorse.migrations') AND a.attname = 'needs'),
       to_regclass('workhorse.migration_progress') IS NOT NULL

-- name: create_schema
CREATE SCHEMA IF NOT EXISTS workhorse

-- name: create_ledger
-- What was applied, when, in which wording, and which number of its set code must know to run on the schema since.
CREATE TABLE IF NOT EXISTS workhorse.migrations (
    set_name   text        NOT NULL,
    number     integer     NOT NULL,
    name       text        NOT NULL,
    checksum   text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (set_name, number)
)

-- name: add_needs
-- A column of its own statement, because there are ledgers of before it.
ALTER TABLE workhorse.migrations ADD COLUMN IF NOT EXISTS needs integer NOT NULL DEFAULT 0

-- name: create_progress
-- How far a migration that runs in no transaction has come; its row goes when it is done.
CREATE TABLE IF NOT EXISTS workhorse.migration_progress (
    set_name  text    NOT NULL,
    number    integer NOT NULL,
    done      integer NOT NULL, -- so many of its statements are done
    digest    text    NOT NULL, -- SHA-256 of these
    under_way text,             -- the next one, if it was begun and may be half done
    PRIMARY KEY (set_name, number)
)

-- name: applied
-- By way of JSON, because a ledger of before the column `needs` is read as well.
SELECT m.set_name, m.number, m.name, m.checksum, m.applied_at, coalesce((to_jsonb(m) ->> 'needs')::integer, 0)
  FROM workhorse.migrations m ORDER BY m.set_name, m.number

-- name: limit_transaction
-- A migration that cannot have a table's lock soon gives up, so that requests do not queue behind it; and one whose
-- process stands still does not keep the locks that it has.
SELECT set_config('lock_timeout', %s, true), set_config('statement_timeout', %s, true),
       set_config('idle_in_transaction_session_timeout', '15s', true)

-- name: limit_lone
-- Outside of a transaction. CREATE INDEX CONCURRENTLY waits for others' transactions, but nobody queues behind it.
SELECT set_config('lock_timeout', %s, false), set_config('statement_timeout', %s, false)

-- name: record
INSERT INTO workhorse.migrations (set_name, number, name, checksum, needs) VALUES (%s, %s, %s, %s, %s)

-- name: progress
SELECT p.done, p.digest, p.under_way FROM workhorse.migration_progress p WHERE p.set_name = %s AND p.number = %s

-- name: note_progress
INSERT INTO workhorse.migration_progress AS p (set_name, number, done, digest, under_way) VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (set_name, number) DO UPDATE
       SET done = EXCLUDED.done, digest = EXCLUDED.digest, under_way = EXCLUDED.under_way

-- name: forget_progress
DELETE FROM workhorse.migration_progress WHERE set_name = %s AND number = %s

-- name: index_of
-- The index of this name on this table, as the server writes it, and whether it is whole; no row: there is none.
SELECT format('%%I.%%I', n.nspname, c.relname), i.indisvalid AND i.indisready
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relname = %s AND i.indrelid = to_regclass(%s)

-- name: is_there
SELECT to_regclass(%s) IS NOT NULL
