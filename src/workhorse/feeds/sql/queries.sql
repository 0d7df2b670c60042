-- name: lock
-- Whether this transaction may read for the feed; at its end another may. An advisory lock, because it gives the
-- transaction no number of its own: with one, its own events could pass for seen in the snapshot that is noted next.
SELECT pg_try_advisory_xact_lock(hashtextextended('workhorse.feed ' || %s, 0))

-- name: position
-- How far the feed has come, and what there is. A statement of its own, after the lock: its snapshot sees the position
-- that the last holder of the lock has left.
SELECT f.seen::text, f.reading::text, f.page_txid::text, f.page_id, f.version,
       f.cluster = c.system_identifier, pg_current_snapshot()::text,
       f.events, (extract(epoch FROM f.began_at) * 1000)::bigint
  FROM workhorse.feeds f, pg_control_system() c
 WHERE f.name = %s

-- name: page
-- Events that `seen` did not see and `reading` does, from a transaction on, after the last one of the page before.
-- All of them are committed, so every later snapshot gives the same ones.
WITH place AS MATERIALIZED (
    SELECT %s::text::xid8 AS first, %s::text::pg_snapshot AS seen, %s::text::pg_snapshot AS reading,
           %s::uuid AS last_id, %s::text AS pattern
)
SELECT e.id, e.txid::text, e.type, e.subject, e.data, e.occurred_at, e.request_id, e.trace_id, e.principal
  FROM workhorse.events e
 WHERE e.txid >= (SELECT first FROM place)
   AND e.txid < (SELECT pg_snapshot_xmax(reading) FROM place)
   AND NOT pg_visible_in_snapshot(e.txid, (SELECT seen FROM place))
   AND pg_visible_in_snapshot(e.txid, (SELECT reading FROM place))
   AND ((SELECT last_id FROM place) IS NULL OR e.txid > (SELECT first FROM place) OR e.id > (SELECT last_id FROM place))
   AND ((SELECT pattern FROM place) IS NULL OR e.type ~ (SELECT pattern FROM place))
 ORDER BY e.txid, e.id
 LIMIT %s::int

-- name: wait
-- The same lock, for whoever begins anew.
SELECT pg_advisory_xact_lock(hashtextextended('workhorse.feed ' || %s, 0))

-- name: begin
-- Begin, or begin anew.
INSERT INTO workhorse.feeds (name, cluster, seen, version)
SELECT %s, system_identifier, CASE WHEN %s = 'now' THEN pg_current_snapshot() ELSE pg_snapshot '1:1:' END, %s
  FROM pg_control_system()
ON CONFLICT (name) DO UPDATE
   SET cluster = excluded.cluster, seen = excluded.seen, reading = NULL, page_txid = NULL, page_id = NULL,
       version = excluded.version, events = 0, moved_at = now(),
       began_at = greatest(clock_timestamp(), feeds.began_at + interval '1 millisecond')

-- name: fix
-- Note what will be read next, before it is: so that it is the same when it is read again.
UPDATE workhorse.feeds SET reading = %s::text::pg_snapshot WHERE name = %s

-- name: turn_page
-- More is to be read between the two snapshots.
UPDATE workhorse.feeds
   SET reading = %s::text::pg_snapshot, page_txid = %s::text::xid8, page_id = %s, events = events + %s, moved_at = now()
 WHERE name = %s

-- name: arrive
-- All that the later snapshot sees has been read.
UPDATE workhorse.feeds
   SET seen = %s::text::pg_snapshot, reading = NULL, page_txid = NULL, page_id = NULL,
       events = events + %s, moved_at = now()
 WHERE name = %s
