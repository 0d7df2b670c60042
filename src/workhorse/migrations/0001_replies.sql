-- The replies kept for retried requests, one row per Idempotency-Key that took effect.
CREATE TABLE workhorse.replies (
    scope          uuid        NOT NULL CONSTRAINT replies_pkey PRIMARY KEY, -- digest of caller, method, path and key
    request_digest bytea       NOT NULL,                                     -- of query, content type and body
    status         smallint    NOT NULL,
    headers        bytea       NOT NULL,                                     -- MessagePack: [[name, value], ...]
    body           bytea,                                                    -- null: streamed or too large to keep
    created_at     timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);

-- Rows come in the order of their age, so a block range index finds the old ones at next to no cost per insert.
CREATE INDEX replies_created_at ON workhorse.replies USING brin (created_at);

-- Waits for whoever holds the same key, then tells what was kept for it. The lock is held to the end of the
-- transaction, and falls with it when the process dies. As a function of two statements, because under READ COMMITTED
-- the second must see what was committed while the first one waited.
CREATE FUNCTION workhorse.claim_reply(claimed uuid, lock_key bigint, keep_seconds integer)
RETURNS TABLE (request_digest bytea, status smallint, headers bytea, body bytea, stale boolean)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(lock_key);
    RETURN QUERY
        SELECT r.request_digest, r.status, r.headers, r.body,
               r.created_at < now() - make_interval(secs => keep_seconds)
          FROM workhorse.replies r
         WHERE r.scope = claimed;
END
$$;
