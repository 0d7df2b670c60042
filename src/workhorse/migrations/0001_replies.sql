-- The replies kept for retried requests, one row per Idempotency-Key that took effect.
-- Not partitioned: only an index over all rows can keep a key from standing twice, and that is the last of the guards
-- against a payment that pays twice. The table stays as large as what is kept, because purges empty its oldest pages.
CREATE TABLE workhorse.replies (
    scope          uuid        NOT NULL CONSTRAINT replies_pkey PRIMARY KEY, -- digest of caller, method, path and key
    request_digest bytea       NOT NULL,                                     -- of query, content type and body
    status         smallint    NOT NULL,
    headers        bytea       NOT NULL,                                     -- MessagePack: [[name, value], ...]
    body           bytea,                                                    -- null: streamed or too large to keep
    key_id         bytea,                                                    -- null: headers and body are not encrypted
    created_at     timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_vacuum_scale_factor = 0.05);

-- Finds the oldest rows. A block range index would be smaller, but its ranges only ever grow: once purged pages are
-- filled again, each range spans all times, and every purge reads the whole table.
CREATE INDEX replies_created_at ON workhorse.replies (created_at);

-- Claims a key, and tells what was kept for it: no row, or one. The claim is a lock that is held to the end of the
-- transaction, and falls with it when the process dies. As a function of two statements, because under READ COMMITTED
-- the second must see what was committed while the first one waited. Where the transaction has one snapshot for all
-- statements, waiting is of no use, since what came meanwhile stays invisible: then a key that is taken is answered by
-- a row of nulls at once, and its caller waits in a transaction of its own before it tries again.
CREATE FUNCTION workhorse.claim_reply(claimed uuid, lock_key bigint, keep_seconds integer)
RETURNS TABLE (request_digest bytea, status smallint, headers bytea, body bytea, key_id bytea, stale boolean)
LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('transaction_isolation') IN ('read committed', 'read uncommitted') THEN
        PERFORM pg_advisory_xact_lock(lock_key);
    ELSIF NOT pg_try_advisory_xact_lock(lock_key) THEN
        RETURN QUERY SELECT NULL::bytea, NULL::smallint, NULL::bytea, NULL::bytea, NULL::bytea, false;
        RETURN;
    END IF;
    RETURN QUERY
        SELECT r.request_digest, r.status, r.headers, r.body, r.key_id,
               r.created_at < now() - make_interval(secs => keep_seconds)
          FROM workhorse.replies r
         WHERE r.scope = claimed;
END
$$;
