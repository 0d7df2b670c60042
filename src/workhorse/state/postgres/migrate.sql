-- name: lock
-- Wait for the one other process that migrates. The lock falls with the session.
SELECT pg_advisory_lock(%s)

-- name: limit_wait
-- The longest wait for the other process.
SET lock_timeout = '60s'

-- name: has_ledger
-- Whether any migration was ever applied here.
SELECT to_regclass('workhorse.migrations') IS NOT NULL

-- name: create_schema
CREATE SCHEMA IF NOT EXISTS workhorse

-- name: create_ledger
-- What was applied, when, and in which wording.
CREATE TABLE IF NOT EXISTS workhorse.migrations (
    set_name   text        NOT NULL,
    number     integer     NOT NULL,
    name       text        NOT NULL,
    checksum   text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (set_name, number)
)

-- name: applied
SELECT set_name, number, checksum, name, applied_at FROM workhorse.migrations ORDER BY set_name, number

-- name: limit_locks
-- A migration that cannot have its table lock soon gives up, so that the old version's requests do not queue behind it.
SET LOCAL lock_timeout = '2s'

-- name: limit_locks_alone
-- The same outside of a transaction.
SET lock_timeout = '2s'

-- name: limit_none_alone
-- CREATE INDEX CONCURRENTLY waits for transactions of others, which nobody queues behind.
SET lock_timeout = 0

-- name: index_state
-- Whether an index is whole; no row: there is none of this name.
SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)

-- name: holder
-- Who has had the lock of migrations for how long.
SELECT coalesce(a.application_name, '') || ', process ' || l.pid || coalesce(' from ' || a.client_addr::text, ''),
       extract(epoch FROM now() - a.backend_start)::int
  FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'advisory' AND l.granted AND l.classid::bigint = %s AND l.objid::bigint = %s

-- name: record
INSERT INTO workhorse.migrations (set_name, number, name, checksum) VALUES (%s, %s, %s, %s)
