-- name: insert
-- Keep a new key. The same insert again, after a lost answer, finds its own row and changes nothing.
INSERT INTO workhorse.api_keys AS k
       (prefix, digest, subject, name, scopes, tenant, created_at, expires_at, revoked_at, used_at)
VALUES (%s, %s, %s, %s, %s::text::text[], %s, to_timestamp(%s::text::float8), to_timestamp(%s::text::float8),
        to_timestamp(%s::text::float8), to_timestamp(%s::text::float8))
    ON CONFLICT (prefix) DO UPDATE SET prefix = k.prefix WHERE k.digest = excluded.digest
RETURNING true

-- name: find
-- One key, whatever has become of it.
SELECT prefix, digest, subject, name, scopes, tenant, extract(epoch FROM created_at)::float8,
       extract(epoch FROM expires_at)::float8, extract(epoch FROM revoked_at)::float8,
       extract(epoch FROM used_at)::float8
  FROM workhorse.api_keys
 WHERE prefix = %s

-- name: list
-- A subject's keys, those not revoked first.
SELECT prefix, digest, subject, name, scopes, tenant, extract(epoch FROM created_at)::float8,
       extract(epoch FROM expires_at)::float8, extract(epoch FROM revoked_at)::float8,
       extract(epoch FROM used_at)::float8
  FROM workhorse.api_keys
 WHERE subject = %s
 ORDER BY revoked_at IS NOT NULL, created_at DESC, prefix
 LIMIT 1000

-- name: rotate
-- End one key, and keep another that takes its place: both, or neither. The same again, after a lost answer, finds the
-- new key and changes nothing.
WITH fresh AS (
    SELECT %s::text AS prefix, %s::bytea AS digest, %s::text AS subject, %s::text AS name,
           %s::text::text[] AS scopes, %s::text AS tenant, to_timestamp(%s::text::float8) AS created_at,
           to_timestamp(%s::text::float8) AS expires_at, to_timestamp(%s::text::float8) AS revoked_at,
           to_timestamp(%s::text::float8) AS used_at
), kept AS (
    SELECT FROM workhorse.api_keys k JOIN fresh ON k.prefix = fresh.prefix AND k.digest = fresh.digest
), ended AS (
    UPDATE workhorse.api_keys SET expires_at = least(expires_at, to_timestamp(%s::text::float8))
     WHERE prefix = %s AND revoked_at IS NULL AND NOT EXISTS (SELECT FROM kept)
       AND (expires_at IS NULL OR expires_at > to_timestamp(%s::text::float8))
    RETURNING prefix
), made AS (
    INSERT INTO workhorse.api_keys
           (prefix, digest, subject, name, scopes, tenant, created_at, expires_at, revoked_at, used_at)
    SELECT fresh.* FROM fresh, ended
    RETURNING prefix
)
SELECT true WHERE EXISTS (SELECT FROM made) OR EXISTS (SELECT FROM kept)

-- name: revoke
-- End one key. The same again, after a lost answer, finds what it did.
UPDATE workhorse.api_keys k SET revoked_at = asked.at
  FROM (SELECT to_timestamp(%s::text::float8) AS at) asked
 WHERE k.prefix = %s AND (k.revoked_at IS NULL OR k.revoked_at = asked.at)
   AND (k.expires_at IS NULL OR k.expires_at > asked.at)
RETURNING true

-- name: revoke_all
-- End a subject's keys. Locked in the order of their prefixes, as `note_use` does.
WITH asked AS (
    SELECT to_timestamp(%s::text::float8) AS at
), alive AS MATERIALIZED (
    SELECT k.prefix FROM workhorse.api_keys k, asked
     WHERE k.subject = %s AND (k.revoked_at IS NULL OR k.revoked_at = asked.at)
       AND (k.expires_at IS NULL OR k.expires_at > asked.at)
     ORDER BY k.prefix FOR NO KEY UPDATE OF k
), ended AS (
    UPDATE workhorse.api_keys k SET revoked_at = asked.at FROM alive, asked WHERE k.prefix = alive.prefix
    RETURNING k.prefix
)
SELECT count(*) FROM ended

-- name: note_use
-- Note when keys were last used. Two processes that note the same keys lock them in the same order.
WITH noted AS MATERIALIZED (
    SELECT k.prefix, to_timestamp(used.at) AS at
      FROM unnest(%s::text::text[], %s::text::float8[]) AS used (prefix, at)
      JOIN workhorse.api_keys k ON k.prefix = used.prefix
     WHERE k.used_at IS NULL OR k.used_at < to_timestamp(used.at)
     ORDER BY k.prefix FOR NO KEY UPDATE OF k
)
UPDATE workhorse.api_keys k SET used_at = greatest(k.used_at, noted.at) FROM noted WHERE k.prefix = noted.prefix
