-- name: exists
-- Whether there is a database of this name.
SELECT 1 FROM pg_database WHERE datname = %s

-- name: limit_wait
-- How long this session waits for the lock.
SELECT set_config('lock_timeout', %s, false)

-- name: lock
-- One process makes templates at a time; held until the session ends.
SELECT pg_advisory_lock(%s)
