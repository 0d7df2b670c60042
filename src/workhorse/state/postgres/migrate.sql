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
SELECT set_name, number, checksum FROM workhorse.migrations

-- name: limit_locks
-- A migration that cannot have its table lock soon gives up, so that the old version's requests do not queue behind it.
SET LOCAL lock_timeout = '5s'

-- name: record
INSERT INTO workhorse.migrations (set_name, number, name, checksum) VALUES (%s, %s, %s, %s)
