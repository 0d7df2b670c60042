-- Times travel as text: seconds since 1970.

-- name: insert
-- Keep a new session, and end the one that it replaces. Sent twice, it keeps one.
WITH replaced AS (
    DELETE FROM workhorse.sessions WHERE digest = %s::bytea
), given AS (
    SELECT %s::bytea AS digest, %s::text AS public_id, %s::text AS subject,
           to_timestamp(%s::float8) AS created_at, to_timestamp(%s::float8) AS seen_at,
           to_timestamp(%s::float8) AS expires_at, %s::integer AS idle_seconds,
           %s::bytea AS grants, %s::bytea AS data, %s::bigint AS version
)
INSERT INTO workhorse.sessions
       (digest, public_id, subject, created_at, seen_at, expires_at, idle_seconds, forget_after, grants, data, version)
SELECT digest, public_id, subject, created_at, seen_at, expires_at, idle_seconds,
       workhorse.forget_after(expires_at, seen_at, idle_seconds), grants, data, version
  FROM given
ON CONFLICT (digest) DO NOTHING

-- name: find
-- The session, unless it has ended.
SELECT digest, public_id, subject, extract(epoch FROM created_at)::float8, extract(epoch FROM seen_at)::float8,
       extract(epoch FROM expires_at)::float8, idle_seconds, grants, data, version
  FROM workhorse.sessions,
       LATERAL (SELECT least(expires_at, seen_at + make_interval(secs => idle_seconds)) AS at) ends
 WHERE digest = %s AND ends.at > to_timestamp(%s::float8)

-- name: touch
-- Note that it was used at a later time, and that it has not ended by then.
UPDATE workhorse.sessions
   SET seen_at = used.at, forget_after = workhorse.forget_after(expires_at, used.at, idle_seconds)
  FROM (SELECT to_timestamp(%s::float8) AS at) used
 WHERE digest = %s AND seen_at < used.at
   AND least(expires_at, seen_at + make_interval(secs => idle_seconds)) > used.at

-- name: write
-- Replace the data of one version. Sent a second time, it finds its own name there. The data do not tell: two who add one
-- to the same number write the same.
WITH given AS (
    SELECT %s::bytea AS digest, %s::bytea AS data, %s::bigint AS version, %s::bytea AS name
), written AS (
    UPDATE workhorse.sessions s SET data = given.data, version = given.version + 1, written_by = given.name
      FROM given
     WHERE s.digest = given.digest AND s.version = given.version
    RETURNING s.digest
)
SELECT EXISTS (SELECT FROM written)
       OR EXISTS (SELECT FROM workhorse.sessions s JOIN given USING (digest) WHERE s.written_by = given.name)

-- name: rotate
-- Give the session another secret and other grants, in its row. Sent a second time, it finds the new secret, which was
-- never used before.
WITH old AS (
    SELECT %s::bytea AS digest
), given AS (
    SELECT %s::bytea AS digest, %s::text AS public_id, %s::text AS subject,
           to_timestamp(%s::float8) AS created_at, to_timestamp(%s::float8) AS seen_at,
           to_timestamp(%s::float8) AS expires_at, %s::integer AS idle_seconds,
           %s::bytea AS grants, %s::bytea AS data, %s::bigint AS version
), rotated AS (
    UPDATE workhorse.sessions s
       SET digest = given.digest, public_id = given.public_id, subject = given.subject,
           created_at = given.created_at, seen_at = given.seen_at, expires_at = given.expires_at,
           idle_seconds = given.idle_seconds, grants = given.grants, data = given.data, version = given.version,
           forget_after = workhorse.forget_after(given.expires_at, given.seen_at, given.idle_seconds)
      FROM given, old
     WHERE s.digest = old.digest AND s.version = given.version - 1
       AND least(s.expires_at, s.seen_at + make_interval(secs => s.idle_seconds)) > given.seen_at
    RETURNING s.digest
)
SELECT EXISTS (SELECT FROM rotated)
       OR EXISTS (SELECT FROM workhorse.sessions s JOIN given USING (digest))

-- name: delete
-- End a session.
DELETE FROM workhorse.sessions WHERE digest = %s RETURNING true

-- name: delete_one
-- End the subject's session of this name.
DELETE FROM workhorse.sessions WHERE subject = %s AND public_id = %s RETURNING true

-- name: delete_all
-- End a subject's sessions, but for one. Returns how many it were.
WITH ended AS (
    DELETE FROM workhorse.sessions WHERE subject = %s AND public_id IS DISTINCT FROM %s::text RETURNING true
)
SELECT count(*) FROM ended

-- name: list
-- The subject's sessions that have not ended, the last used first.
SELECT digest, public_id, subject, extract(epoch FROM created_at)::float8, extract(epoch FROM seen_at)::float8,
       extract(epoch FROM expires_at)::float8, idle_seconds, grants, data, version
  FROM workhorse.sessions,
       LATERAL (SELECT least(expires_at, seen_at + make_interval(secs => idle_seconds)) AS at) ends
 WHERE subject = %s AND ends.at > to_timestamp(%s::float8)
 ORDER BY seen_at DESC
 LIMIT 100

-- name: purge
-- Forget 1,000 sessions that have ended, the oldest first. Those that are being ended are left out, so nobody waits.
WITH ended AS MATERIALIZED (
    SELECT digest FROM workhorse.sessions WHERE forget_after <= to_timestamp(%s::float8)
     ORDER BY forget_after LIMIT 1000 FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM workhorse.sessions s USING ended WHERE s.digest = ended.digest RETURNING true
)
SELECT count(*) FROM gone
