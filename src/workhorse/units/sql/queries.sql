-- name: claim_reply
-- Claim the key, then tell what was kept for it: no row, or the one reply. A row of nulls: another holds the key.
SELECT request_digest, status, headers, body, stale, key_id FROM workhorse.claim_reply(%s, %s, %s)

-- name: keep_reply
-- Keep the reply of a claimed key. Travels with COMMIT. A second row for one key is impossible, and must stay so.
INSERT INTO workhorse.replies (scope, request_digest, status, headers, body, key_id) VALUES (%s, %s, %s, %s, %s, %s)

-- name: await_standby
-- Travels with the COMMIT after a kept reply was found. Under synchronous replication that reply may be visible and not
-- replicated: its own wait was ended, or the server was restarted meanwhile. So something is written behind it in the
-- log, and this COMMIT waits for the standby to have both. Elsewhere nothing is written, and nothing waited for.
SELECT pg_logical_emit_message(true, 'workhorse', '')
 WHERE current_setting('synchronous_standby_names') <> '' AND NOT pg_is_in_recovery()

-- name: purge_replies
-- Forget a bounded number of replies, the oldest first, that are neither replayed nor refused as stale any more.
DELETE FROM workhorse.replies
 WHERE ctid IN (SELECT ctid FROM workhorse.replies
                 WHERE created_at < now() - make_interval(secs => %s)
                 ORDER BY created_at LIMIT 5000 FOR UPDATE SKIP LOCKED)
