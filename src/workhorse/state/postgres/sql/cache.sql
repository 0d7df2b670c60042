-- name: get
-- What is kept under the keys. Arrays travel as text: '{a,b}'.
SELECT key::text, data, left_seconds FROM workhorse.cache_live WHERE key = ANY (%s::text::uuid[])

-- name: set
-- Keep entries, given as a JSON array.
SELECT workhorse.set_cached(%s::text::jsonb)

-- name: claim
-- Claim the making of a key.
SELECT granted, is_held, stamps, found_data, left_seconds
  FROM workhorse.claim_cached(%s::text::uuid, %s::text::uuid[], %s::text::uuid, %s::text::float8)

-- name: fill
-- Keep what was made.
SELECT workhorse.fill_cached(
    %s::text::uuid, %s::text::uuid, %s::bytea, %s::text::float8, %s::text::uuid[], %s::text::bigint[])

-- name: abandon
-- Let others make it. A transaction that is just deleting the key has done so already.
WITH mine AS MATERIALIZED (
    SELECT key FROM workhorse.cache_entries
     WHERE key = %s::text::uuid AND mark = %s::text::uuid AND NOT held
       FOR UPDATE SKIP LOCKED
)
UPDATE workhorse.cache_entries e SET mark = NULL, mark_ends_at = '-infinity' FROM mine WHERE e.key = mine.key

-- name: delete
-- Forget keys and tags, unless another holds them, under whom nothing is kept. Locked in order, as others do.
WITH given AS (
    SELECT %s::text::uuid[] AS keys, %s::text::uuid[] AS tags, %s::text::uuid AS token
), locked AS MATERIALIZED (
    SELECT e.key FROM workhorse.cache_entries e, given
     WHERE e.key = ANY (given.keys)
       AND NOT (e.held AND e.mark <> given.token AND e.mark_ends_at > clock_timestamp())
     ORDER BY e.key FOR UPDATE OF e
), locked_tags AS MATERIALIZED (
    SELECT t.tag FROM workhorse.cache_tags t, given
     WHERE t.tag = ANY (given.tags)
       AND NOT (t.hold IS NOT NULL AND t.hold <> given.token AND t.hold_ends_at > clock_timestamp())
     ORDER BY t.tag FOR UPDATE OF t
), gone AS (
    DELETE FROM workhorse.cache_entries e USING locked WHERE e.key = locked.key
)
DELETE FROM workhorse.cache_tags t USING locked_tags WHERE t.tag = locked_tags.tag

-- name: hold
-- Forget keys and tags, and keep nothing under them for a while.
WITH given AS (
    SELECT %s::text::uuid[] AS keys, %s::text::uuid[] AS tags, %s::text::uuid AS token,
           clock_timestamp() + make_interval(secs => %s::text::float8) AS ends_at
), held AS (
    INSERT INTO workhorse.cache_entries AS e (key, mark, held, mark_ends_at)
    SELECT key, given.token, true, given.ends_at FROM given, unnest(given.keys) AS key ORDER BY key
        ON CONFLICT (key) DO UPDATE
           SET data = NULL, ends_at = '-infinity', tags = '{}', versions = '{}',
               mark = EXCLUDED.mark, held = true, mark_ends_at = EXCLUDED.mark_ends_at
)
INSERT INTO workhorse.cache_tags AS t (tag, version, hold, hold_ends_at)
SELECT tag, nextval('workhorse.cache_versions'), given.token, given.ends_at FROM given, unnest(given.tags) AS tag ORDER BY tag
    ON CONFLICT (tag) DO UPDATE
       SET version = EXCLUDED.version, hold = EXCLUDED.hold, hold_ends_at = EXCLUDED.hold_ends_at

-- name: delete_within
-- Forget keys and tags when the transaction that is open commits. A row is written even where there was none: its lock
-- is what keeps others from filling it until then.
WITH given AS (
    SELECT %s::text::uuid[] AS keys, %s::text::uuid[] AS tags
), forgotten AS (
    INSERT INTO workhorse.cache_entries AS e (key)
    SELECT key FROM given, unnest(given.keys) AS key ORDER BY key
        ON CONFLICT (key) DO UPDATE
           SET data = NULL, ends_at = '-infinity', tags = '{}', versions = '{}',
               mark = CASE WHEN e.held THEN e.mark END
)
INSERT INTO workhorse.cache_tags AS t (tag, version)
SELECT tag, nextval('workhorse.cache_versions') FROM given, unnest(given.tags) AS tag ORDER BY tag
    ON CONFLICT (tag) DO UPDATE SET version = EXCLUDED.version

-- name: purge
-- Of the next 5,000 entries in the order of their keys, delete those that are over. Returns how many it deleted, and the
-- last key that it looked at.
WITH page AS MATERIALIZED (
    SELECT key FROM workhorse.cache_entries WHERE key > %s::text::uuid ORDER BY key LIMIT 5000
), over AS MATERIALIZED (
    SELECT e.key FROM workhorse.cache_entries e JOIN page USING (key)
     WHERE e.ends_at <= clock_timestamp() AND e.mark_ends_at <= clock_timestamp()
       FOR UPDATE OF e SKIP LOCKED
), gone AS (
    DELETE FROM workhorse.cache_entries e USING over WHERE e.key = over.key RETURNING e.key
)
SELECT (SELECT count(*) FROM gone), (SELECT key::text FROM page ORDER BY key DESC LIMIT 1)

-- name: purge_tags
-- The same of tags, whose versions are forgotten after so many seconds; what still has them is made again.
WITH page AS MATERIALIZED (
    SELECT tag FROM workhorse.cache_tags WHERE tag > %s::text::uuid ORDER BY tag LIMIT 5000
), over AS MATERIALIZED (
    SELECT t.tag FROM workhorse.cache_tags t JOIN page USING (tag)
     WHERE t.made_at < clock_timestamp() - make_interval(secs => %s::text::float8)
       AND t.hold_ends_at <= clock_timestamp()
       FOR UPDATE OF t SKIP LOCKED
), gone AS (
    DELETE FROM workhorse.cache_tags t USING over WHERE t.tag = over.tag RETURNING t.tag
)
SELECT (SELECT count(*) FROM gone), (SELECT tag::text FROM page ORDER BY tag DESC LIMIT 1)
