-- name: acquire
-- Take a lease if nobody has it.
SELECT given_token, left_seconds FROM workhorse.acquire_lease(%s, %s::text::uuid, %s::text::float8)

-- name: renew
-- Let it end later, if it has not ended.
UPDATE workhorse.leases SET ends_at = clock_timestamp() + make_interval(secs => %s::text::float8)
 WHERE name = %s AND holder = %s::text::uuid AND ends_at > clock_timestamp() RETURNING 1

-- name: release
-- End it.
UPDATE workhorse.leases SET ends_at = clock_timestamp()
 WHERE name = %s AND holder = %s::text::uuid AND ends_at > clock_timestamp() RETURNING 1

-- name: purge
-- Forget up to 1,000 names that nobody has held for a day; those that somebody takes at this moment are left out.
WITH over AS MATERIALIZED (
    SELECT name FROM workhorse.leases WHERE ends_at < clock_timestamp() - interval '1 day'
     LIMIT 1000 FOR UPDATE SKIP LOCKED
)
DELETE FROM workhorse.leases l USING over WHERE l.name = over.name RETURNING 1
