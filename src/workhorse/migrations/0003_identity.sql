-- Sessions of people who are logged in, one row each, found by the digest of the secret in their cookie.
CREATE TABLE workhorse.sessions (
    digest       bytea       NOT NULL CONSTRAINT sessions_pkey PRIMARY KEY, -- SHA-256 of the secret
    public_id    text        NOT NULL,                                      -- names it to its owner, opens nothing
    subject      text        NOT NULL,                                      -- its owner
    created_at   timestamptz NOT NULL,                                      -- the login
    seen_at      timestamptz NOT NULL,                                      -- the last use, to about a minute
    expires_at   timestamptz NOT NULL,                                      -- the end, whatever is done with it
    idle_seconds integer     NOT NULL,                                      -- the end comes so long after the last use
    forget_after timestamptz NOT NULL,                                      -- see the function of this name
    grants       bytea       NOT NULL,                                      -- MessagePack: who it is, and what it may do
    data         bytea       NOT NULL,                                      -- MessagePack: what the app keeps there
    version      bigint      NOT NULL,
    written_by   bytea,                                                     -- names the last write of `data`
    CONSTRAINT sessions_digest_is_sha256 CHECK (octet_length(digest) = 32)
) WITH (
    -- A row is updated as long as its session is used. No indexed column changes by that, but for `forget_after` now
    -- and then; so with room on its page for the new version, the indexes are left alone.
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05
);

-- The quarter of an hour by which a session has ended if it is not used again. As an exact time it would change with
-- each use, and each use would then have to write all indexes.
CREATE FUNCTION workhorse.forget_after(expires_at timestamptz, seen_at timestamptz, idle_seconds integer)
RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT date_bin('15 minutes', least(expires_at, seen_at + make_interval(secs => idle_seconds)), 'epoch')
           + interval '15 minutes'
$$;

CREATE INDEX sessions_subject ON workhorse.sessions (subject);
CREATE INDEX sessions_forget_after ON workhorse.sessions (forget_after);

-- Keys of programs, found by their public part. The rows of ended keys stay: they say who could do what, and when.
CREATE TABLE workhorse.api_keys (
    prefix     text        NOT NULL CONSTRAINT api_keys_pkey PRIMARY KEY,
    digest     bytea       NOT NULL, -- SHA-256 of the whole key
    subject    text        NOT NULL, -- its owner
    name       text        NOT NULL, -- what the owner calls it
    scopes     text[]      NOT NULL,
    tenant     text        NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    used_at    timestamptz,          -- the last use, to about a minute
    CONSTRAINT api_keys_digest_is_sha256 CHECK (octet_length(digest) = 32)
) WITH (
    fillfactor = 70,                 -- `used_at` is updated, and in no index
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05
);

CREATE INDEX api_keys_subject ON workhorse.api_keys (subject, created_at DESC);
