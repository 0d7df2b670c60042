-- name: claim_replies
-- Take the keys of a batch, and tell of those that were taken before. One row of arrays. Arrays travel as text, which
-- every driver takes: '{a,b}'.
SELECT busy, claimed FROM workhorse.claim_replies(%s::text::uuid[], %s::text::bigint[])

-- name: kept_replies
-- What was kept for keys that took effect before; and, before the reply's own columns, whether a standby may not have it
-- yet (see `await_standby`).
SELECT scope, current_setting('synchronous_standby_names') <> '' AND NOT pg_is_in_recovery(), request_digest, status, headers, body, created_at < now() - make_interval(secs => %s), key_id
  FROM workhorse.replies WHERE scope = ANY (%s::text::uuid[])

-- name: keep_replies
-- Keep the replies of a batch. Travels with COMMIT.
INSERT INTO workhorse.replies (scope, request_digest, status, headers, body, key_id)
SELECT * FROM unnest(%s::text::uuid[], %s::text::bytea[], %s::text::smallint[], %s::text::bytea[], %s::text::bytea[],
                     %s::text::bytea[])
