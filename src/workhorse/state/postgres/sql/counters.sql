-- name: take
-- Take from the counters of one request, all or none. Arrays travel as text: '{1,2}'.
SELECT now_us, tats FROM workhorse.take_counters(%s::text::uuid[], %s::text::bigint[], %s::text::bigint[])

-- name: look
-- The same answer, with nothing locked, made or changed.
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
       ARRAY(SELECT coalesce((SELECT c.tat FROM workhorse.counters c WHERE c.key = wanted.key), 0)
               FROM unnest(%s::text::uuid[]) WITH ORDINALITY AS wanted (key, place)
              ORDER BY wanted.place)

-- name: forget
-- Make counters full again. Locked in the order of their keys, as takes do.
DELETE FROM workhorse.counters
 WHERE key = ANY (ARRAY(SELECT key FROM workhorse.counters
                         WHERE key = ANY (%s::text::uuid[]) ORDER BY key FOR UPDATE))

-- name: purge
-- Of the next 5,000 counters in the order of their keys, delete those that are full again. Those that are being taken
-- from are left out, so nobody waits for it. Returns how many it deleted, and the last key that it looked at.
WITH page AS MATERIALIZED (
    SELECT key FROM workhorse.counters WHERE key > %s::text::uuid ORDER BY key LIMIT 5000
), full_again AS MATERIALIZED (
    SELECT c.key FROM workhorse.counters c JOIN page USING (key)
     WHERE c.tat <= extract(epoch FROM clock_timestamp()) * 1000000
       FOR UPDATE OF c SKIP LOCKED
), gone AS (
    DELETE FROM workhorse.counters c USING full_again f WHERE c.key = f.key RETURNING c.key
)
SELECT (SELECT count(*) FROM gone), (SELECT key FROM page ORDER BY key DESC LIMIT 1)
