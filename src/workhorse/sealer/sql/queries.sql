-- name: log
-- The log as it was left by the last batch.
SELECT origin, size, root FROM workhorse.audit_log

-- name: begin
-- An empty log, where there is none.
INSERT INTO workhorse.audit_log (origin, size, root) VALUES (%s, 0, %s) ON CONFLICT DO NOTHING

-- name: announced
-- The key that the journal was told of last, and whether the event that told of it is sealed.
SELECT l.key, EXISTS (SELECT FROM workhorse.audit_entries a WHERE a.event_id = l.key_event)
  FROM workhorse.audit_log l

-- name: hold
-- Keep the log as it is until the end of this transaction, so that of two processes one tells of its key.
SELECT FROM workhorse.audit_log FOR UPDATE

-- name: announce
-- The journal is told of a key.
UPDATE workhorse.audit_log SET key = %s, key_event = %s

-- name: thin
-- Of the checkpoints older than a day, one an hour stays, and the last that most witnesses have signed.
DELETE FROM workhorse.audit_checkpoints c
 WHERE c.signed_at < now() - interval '1 day'
   AND EXISTS (SELECT FROM workhorse.audit_checkpoints d
                WHERE d.size > c.size AND d.cosigned >= c.cosigned
                  AND date_trunc('hour', d.signed_at) = date_trunc('hour', c.signed_at))

-- name: grow
-- The log after a batch; no row if another changed it meanwhile.
UPDATE workhorse.audit_log SET size = %s, root = %s, sealed_at = now() WHERE origin = %s AND size = %s RETURNING size

-- name: rows
-- The events of these ids (a JSON array), with their data as text, which keeps every digit.
SELECT e.id, e.type, e.subject, e.data::text, e.occurred_at, e.request_id, e.trace_id, e.principal
  FROM workhorse.events e
 WHERE e.id IN (SELECT value::uuid FROM jsonb_array_elements_text(%s::jsonb))

-- name: sealed
-- Those of these events (a JSON array of ids) that have an entry already.
SELECT index, event_id FROM workhorse.audit_entries
 WHERE event_id IN (SELECT value::uuid FROM jsonb_array_elements_text(%s::jsonb))
 ORDER BY index LIMIT 1

-- name: add_entries
-- Entries, as a JSON array.
INSERT INTO workhorse.audit_entries (index, event_id, entry)
SELECT index, event_id, entry FROM jsonb_to_recordset(%s::jsonb) AS e (index bigint, event_id uuid, entry text)

-- name: put_tiles
-- Tiles, as a JSON array. One only grows, and a full one stays as it is.
INSERT INTO workhorse.audit_tiles AS t (level, index, width, hashes)
SELECT level, index, width, decode(hashes, 'base64')
  FROM jsonb_to_recordset(%s::jsonb) AS e (level smallint, index bigint, width smallint, hashes text)
ON CONFLICT (level, index) DO UPDATE SET width = excluded.width, hashes = excluded.hashes WHERE t.width < excluded.width

-- name: tiles
-- The tiles of a JSON array of places.
SELECT t.level, t.index, t.width, t.hashes
  FROM workhorse.audit_tiles t
  JOIN jsonb_to_recordset(%s::jsonb) AS e (level smallint, index bigint) USING (level, index)

-- name: entries
-- The entries from an index on, up to another.
SELECT index, entry FROM workhorse.audit_entries WHERE index >= %s AND index < %s ORDER BY index

-- name: find_entry
-- Where an event stands.
SELECT index FROM workhorse.audit_entries WHERE event_id = %s::uuid

-- name: sign_lock
-- Whether this transaction may sign; one does over the cluster.
SELECT pg_try_advisory_xact_lock(hashtextextended('workhorse.audit sign', 0))

-- name: last_checkpoint
-- What was signed last, by so many witnesses too.
SELECT size, note, extract(epoch FROM now() - signed_at)::float8 FROM workhorse.audit_checkpoints
 WHERE cosigned >= %s
 ORDER BY size DESC LIMIT 1

-- name: add_checkpoint
-- Keep what is signed.
INSERT INTO workhorse.audit_checkpoints (size, note) VALUES (%s, %s)

-- name: checkpoints
-- All that was signed up to a size.
SELECT size, note FROM workhorse.audit_checkpoints WHERE size <= %s ORDER BY size

-- name: waiting
-- Events that are not sealed yet, and how old the oldest is in seconds.
SELECT count(*), coalesce(extract(epoch FROM now() - min(e.occurred_at)), 0)::float8
  FROM workhorse.events e
 WHERE e.txid >= (SELECT pg_snapshot_xmin(seen) FROM workhorse.feeds WHERE name = %s)
   AND NOT EXISTS (SELECT FROM workhorse.audit_entries a WHERE a.event_id = e.id)

-- name: detached_months
-- Months of the journal that stand beside it: they were detached, or not attached again after a restore.
SELECT c.oid::bigint, c.relname FROM pg_class c
 WHERE c.relnamespace = 'workhorse'::regnamespace AND c.relkind = 'r' AND c.relname ~ '^events_[0-9]{4}_[0-9]{2}$'
   AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)
 ORDER BY c.relname
 LIMIT 1200

-- name: unsealed_of_month
-- Whether a detached month has an event without an entry. Its name stands in for `a_month`.
SELECT EXISTS (SELECT FROM workhorse.a_month e
                WHERE NOT EXISTS (SELECT FROM workhorse.audit_entries a WHERE a.event_id = e.id))

-- name: is_behind
-- Whether an event that came more than so many seconds ago is not sealed yet. What the sealer has read is not looked at.
SELECT EXISTS (
    SELECT FROM workhorse.events e
     WHERE e.occurred_at < now() - %s * interval '1 second'
       AND e.txid >= coalesce((SELECT pg_snapshot_xmin(seen) FROM workhorse.feeds WHERE name = %s), '0'::xid8)
       AND NOT EXISTS (SELECT FROM workhorse.audit_entries a WHERE a.event_id = e.id))

-- name: export_events
-- The events that a log of a size covers, by index, from an index on; of those that have no entry see `strangers`.
SELECT a.index, e.id, e.type, e.subject, e.data::text, e.occurred_at, e.request_id, e.trace_id, e.principal
  FROM workhorse.audit_entries a JOIN workhorse.events e ON e.id = a.event_id
 WHERE a.index >= %s AND a.index < %s
 ORDER BY a.index

-- name: strangers
-- Events without an entry that should have one: the sealer's position says that they were read, or their transaction
-- has a number that none has had yet.
SELECT e.id, e.type, e.subject, e.data::text, e.occurred_at, e.request_id, e.trace_id, e.principal
  FROM workhorse.events e, workhorse.feeds f
 WHERE f.name = %s
   AND (pg_visible_in_snapshot(e.txid, f.seen) OR e.txid >= pg_snapshot_xmax(pg_current_snapshot()))
   AND NOT EXISTS (SELECT FROM workhorse.audit_entries a WHERE a.event_id = e.id)
 ORDER BY e.id
 LIMIT %s

-- name: resume_locks
-- Those of the reader and of the signer, until the end of this transaction.
SELECT pg_advisory_xact_lock(hashtextextended('workhorse.feed ' || %s, 0)),
       pg_advisory_xact_lock(hashtextextended('workhorse.audit sign', 0))

-- name: restored
-- Where this cluster is now, in which one the sealer's position was noted, and which one this is.
SELECT pg_current_snapshot()::text, f.cluster::text, c.system_identifier::text
  FROM workhorse.feeds f, pg_control_system() c
 WHERE f.name = %s

-- name: count_restored
-- Events without an entry, and entries without an event.
SELECT (SELECT count(*) FROM workhorse.events e
         WHERE NOT EXISTS (SELECT FROM workhorse.audit_entries a WHERE a.event_id = e.id)),
       (SELECT count(*) FROM workhorse.audit_entries a
         WHERE NOT EXISTS (SELECT FROM workhorse.events e WHERE e.id = a.event_id))

-- name: renumber
-- Events that are not sealed are read as if they had come now.
UPDATE workhorse.events e SET txid = pg_current_xact_id()
 WHERE NOT EXISTS (SELECT FROM workhorse.audit_entries a WHERE a.event_id = e.id)

-- name: resume_position
-- All that this snapshot of this cluster does not see is read next.
UPDATE workhorse.feeds f
   SET cluster = c.system_identifier, seen = %s::text::pg_snapshot, reading = NULL, page_txid = NULL, page_id = NULL,
       moved_at = now()
  FROM pg_control_system() c
 WHERE f.name = %s

-- name: renumber_sealed
-- Events that are sealed, and whose transactions this cluster would count as still to come: they get a number that every
-- snapshot sees, 3, the first that a transaction can have. Or they would come again when the cluster gets there.
UPDATE workhorse.events e SET txid = '3'
 WHERE NOT pg_visible_in_snapshot(e.txid, %s::text::pg_snapshot)
   AND EXISTS (SELECT FROM workhorse.audit_entries a WHERE a.event_id = e.id)

-- name: know_witness
-- A row for a witness, where there is none.
INSERT INTO workhorse.audit_witnesses (witness) VALUES (%s) ON CONFLICT DO NOTHING

-- name: claim_witness
-- Take a witness that is due for so many seconds; no row if it is not, or another process has it.
UPDATE workhorse.audit_witnesses SET next_at = now() + %s * interval '1 second'
 WHERE witness = %s AND next_at <= now()
RETURNING size, failures, extract(epoch FROM now() - signed_at)::float8

-- name: witness_waits
-- There is nothing to sign.
UPDATE workhorse.audit_witnesses SET next_at = now() + %s * interval '1 second' WHERE witness = %s

-- name: witness_failed
-- It did not sign.
UPDATE workhorse.audit_witnesses
   SET trouble = %s, failures = failures + 1, next_at = now() + %s * interval '1 second'
 WHERE witness = %s

-- name: witness_signed
-- It did.
UPDATE workhorse.audit_witnesses
   SET size = %s, signed_at = to_timestamp(%s), failures = 0, trouble = NULL,
       next_at = now() + %s * interval '1 second'
 WHERE witness = %s

-- name: hold_checkpoint
-- A checkpoint, which no other process changes until the end of this transaction.
SELECT note FROM workhorse.audit_checkpoints WHERE size = %s FOR UPDATE

-- name: cosign
-- A checkpoint with another signature.
UPDATE workhorse.audit_checkpoints SET note = %s, cosigned = %s WHERE size = %s

-- name: witnesses
-- How each witness stands.
SELECT witness, size, extract(epoch FROM now() - signed_at)::float8, failures, trouble
  FROM workhorse.audit_witnesses ORDER BY witness

-- name: know_store
-- A row for a store, where there is none.
INSERT INTO workhorse.audit_published (store) VALUES (%s) ON CONFLICT DO NOTHING

-- name: claim_store
-- Take a store that is due for so many seconds; no row if it is not, or another process has it.
UPDATE workhorse.audit_published SET next_at = now() + %s * interval '1 second'
 WHERE store = %s AND next_at <= now()
RETURNING size

-- name: published
-- So much is there, and the next turn is in so many seconds.
UPDATE workhorse.audit_published SET size = %s, next_at = now() + %s * interval '1 second' WHERE store = %s
