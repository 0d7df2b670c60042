-- name: find
SELECT wrapped, wrapped_by FROM workhorse.subject_keys WHERE subject = %s

-- name: make
-- Of two that make the first key of a subject at once, the second waits for the first, and takes its key.
INSERT INTO workhorse.subject_keys (subject, wrapped, wrapped_by) VALUES (%s, %s, %s) ON CONFLICT (subject) DO NOTHING

-- name: destroy
-- A subject who never had a key is erased too: none is made for them later.
INSERT INTO workhorse.subject_keys AS kept (subject, wrapped, wrapped_by, destroyed_at, reason)
VALUES (%s, NULL, '', now(), %s)
ON CONFLICT (subject) DO UPDATE
   SET wrapped = NULL, destroyed_at = coalesce(kept.destroyed_at, excluded.destroyed_at),
       reason = coalesce(kept.reason, excluded.reason)
RETURNING destroyed_at, reason

-- name: older
-- Keys that an earlier wrapping key wrapped. Who wraps them anew at the same time takes others.
SELECT subject, wrapped, wrapped_by FROM workhorse.subject_keys
 WHERE wrapped IS NOT NULL AND wrapped_by <> %s
 ORDER BY wrapped_by, subject LIMIT %s FOR UPDATE SKIP LOCKED

-- name: rewrap
UPDATE workhorse.subject_keys SET wrapped = %s, wrapped_by = %s WHERE subject = %s AND wrapped IS NOT NULL
