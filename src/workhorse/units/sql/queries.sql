-- name: claim_reply
-- Wait for the key, then tell what was kept for it: no row, or the one reply.
SELECT request_digest, status, headers, body, stale FROM workhorse.claim_reply(%s, %s, %s)

-- name: keep_reply
-- Keep the reply of a claimed key. Travels with COMMIT. A second row for one key is impossible, and must stay so.
INSERT INTO workhorse.replies (scope, request_digest, status, headers, body) VALUES (%s, %s, %s, %s, %s)

-- name: purge_replies
-- Forget a bounded number of replies that are neither replayed nor refused as stale any more.
DELETE FROM workhorse.replies
 WHERE ctid IN (SELECT ctid FROM workhorse.replies
                 WHERE created_at < now() - make_interval(secs => %s) LIMIT 5000 FOR UPDATE SKIP LOCKED)
