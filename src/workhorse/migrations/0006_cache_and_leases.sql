-- What is cached. Unlogged: writing waits for no disk, and a crash of the server empties the tables, which a cache bears.
CREATE UNLOGGED TABLE workhorse.cache_entries (
    key          uuid        NOT NULL CONSTRAINT cache_entries_pkey PRIMARY KEY, -- digest of the key
    data         bytea,                                       -- NULL: nothing is kept
    ends_at      timestamptz NOT NULL DEFAULT '-infinity',    -- of the data
    tags         uuid[]      NOT NULL DEFAULT '{}',           -- digests of its tags
    versions     bigint[]    NOT NULL DEFAULT '{}',           -- of these, as the making of the data began
    mark         uuid,                                        -- who makes the next data, or holds the key
    held         boolean     NOT NULL DEFAULT false,          -- whether the mark is a hold
    mark_ends_at timestamptz NOT NULL DEFAULT '-infinity'
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05
);

-- A tag that has no row has no entries. A version never comes back, so a row may go, and its entries are gone with it.
CREATE UNLOGGED TABLE workhorse.cache_tags (
    tag          uuid        NOT NULL CONSTRAINT cache_tags_pkey PRIMARY KEY,
    version      bigint      NOT NULL,
    made_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    hold         uuid,
    hold_ends_at timestamptz NOT NULL DEFAULT '-infinity'
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05
);

CREATE SEQUENCE workhorse.cache_versions;

-- The entries that are there: not over, and with the versions that their tags have now.
CREATE VIEW workhorse.cache_live AS
SELECT e.key, e.data, extract(epoch FROM e.ends_at - clock_timestamp())::float8 AS left_seconds
  FROM workhorse.cache_entries e
 WHERE e.data IS NOT NULL AND e.ends_at > clock_timestamp()
   AND (e.tags = '{}' OR NOT EXISTS (
        SELECT FROM unnest(e.tags, e.versions) AS stamp (tag, version)
         WHERE NOT EXISTS (SELECT FROM workhorse.cache_tags t WHERE t.tag = stamp.tag AND t.version = stamp.version)));

-- The versions of tags, made now where they are missing, and whether one of them is held. A tag that another
-- transaction is just changing is waited for: see those who call this.
CREATE FUNCTION workhorse.stamp_cache_tags(wanted uuid[], OUT stamps bigint[], OUT is_held boolean)
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    found_version bigint;
    found_hold timestamptz;
BEGIN
    stamps := '{}';
    is_held := false;
    FOR i IN 1 .. cardinality(wanted) LOOP
        SELECT t.version, t.hold_ends_at INTO found_version, found_hold
          FROM workhorse.cache_tags t WHERE t.tag = wanted[i];
        IF NOT FOUND THEN
            INSERT INTO workhorse.cache_tags AS t (tag, version) VALUES (wanted[i], nextval('workhorse.cache_versions'))
                ON CONFLICT (tag) DO NOTHING;
            SELECT t.version, t.hold_ends_at INTO found_version, found_hold
              FROM workhorse.cache_tags t WHERE t.tag = wanted[i];
        END IF;
        stamps := stamps || coalesce(found_version, 0);
        is_held := is_held OR coalesce(found_hold > clock_timestamp(), false);
    END LOOP;
END
$$;

-- Claims the making of a key. Who waits for a transaction that deletes the key or a tag would wait for its end, which may
-- be far: so after a moment the key counts as held. That somebody makes it is found without taking a lock, because those
-- who wait for it ask again and again.
CREATE FUNCTION workhorse.claim_cached(
    wanted uuid, wanted_tags uuid[], token uuid, life_seconds float8,
    OUT granted boolean, OUT is_held boolean, OUT stamps bigint[], OUT found_data bytea, OUT left_seconds float8)
LANGUAGE plpgsql SET enable_seqscan = off SET lock_timeout = '50ms' AS $$
BEGIN
    granted := false;
    BEGIN
        SELECT s.stamps, s.is_held INTO stamps, is_held FROM workhorse.stamp_cache_tags(wanted_tags) s;
        IF NOT is_held THEN
            SELECT e.held INTO is_held FROM workhorse.cache_entries e
             WHERE e.key = wanted AND e.mark <> token AND e.mark_ends_at > clock_timestamp();
            IF NOT FOUND THEN
                INSERT INTO workhorse.cache_entries AS e (key, mark, held, mark_ends_at)
                VALUES (wanted, token, false, clock_timestamp() + make_interval(secs => life_seconds))
                    ON CONFLICT (key) DO UPDATE
                       SET mark = EXCLUDED.mark, held = false, mark_ends_at = EXCLUDED.mark_ends_at
                     WHERE e.mark IS NULL OR e.mark_ends_at <= clock_timestamp() OR (e.mark = EXCLUDED.mark AND NOT e.held);
                granted := FOUND;
                is_held := false;
            END IF;
        END IF;
    EXCEPTION WHEN lock_not_available THEN
        granted := false;
        is_held := true;
    END;
    SELECT l.data, l.left_seconds INTO found_data, left_seconds FROM workhorse.cache_live l WHERE l.key = wanted;
END
$$;

-- Keeps what was made, if the claim stands. A transaction that is just deleting the key has ended it, unless it is undone.
CREATE FUNCTION workhorse.fill_cached(
    wanted uuid, token uuid, new_data bytea, life_seconds float8, new_tags uuid[], stamps bigint[])
RETURNS boolean
LANGUAGE plpgsql SET enable_seqscan = off SET lock_timeout = '50ms' AS $$
BEGIN
    UPDATE workhorse.cache_entries e
       SET data = new_data, ends_at = clock_timestamp() + make_interval(secs => life_seconds),
           tags = new_tags, versions = stamps, mark = NULL, held = false, mark_ends_at = '-infinity'
     WHERE e.key = wanted AND e.mark = token AND NOT e.held AND e.mark_ends_at > clock_timestamp();
    RETURN FOUND;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END
$$;

-- Keeps entries whatever was there, unless they are held; a held one is gone already. They come as a JSON array, and are
-- taken in the order of their keys, so that two calls never wait for each other in a ring.
CREATE FUNCTION workhorse.set_cached(entries jsonb) RETURNS void
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    entry record;
    stamp record;
BEGIN
    FOR entry IN
        SELECT * FROM jsonb_to_recordset(entries) AS given (key uuid, data text, seconds float8, tags uuid[])
         ORDER BY given.key
    LOOP
        SELECT s.stamps, s.is_held INTO stamp FROM workhorse.stamp_cache_tags(entry.tags) s;
        IF stamp.is_held THEN
            DELETE FROM workhorse.cache_entries e WHERE e.key = entry.key AND NOT e.held;
            CONTINUE;
        END IF;
        INSERT INTO workhorse.cache_entries AS e (key, data, ends_at, tags, versions)
        VALUES (entry.key, decode(entry.data, 'hex'), clock_timestamp() + make_interval(secs => entry.seconds),
                entry.tags, stamp.stamps)
            ON CONFLICT (key) DO UPDATE
               SET data = EXCLUDED.data, ends_at = EXCLUDED.ends_at, tags = EXCLUDED.tags, versions = EXCLUDED.versions,
                   mark = NULL, held = false, mark_ends_at = '-infinity'
             WHERE NOT (e.held AND e.mark_ends_at > clock_timestamp());
    END LOOP;
END
$$;

-- Who holds what. A row stays for a day after its end, so that a name's tokens and rows never race.
CREATE TABLE workhorse.leases (
    name    text        NOT NULL CONSTRAINT leases_pkey PRIMARY KEY,
    holder  uuid        NOT NULL,
    token   bigint      NOT NULL, -- larger than all that this name had before
    ends_at timestamptz NOT NULL
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05
);

CREATE SEQUENCE workhorse.lease_tokens;

-- Takes a lease if nobody has it. The token is drawn when the row is locked, so a later holder's is larger.
CREATE FUNCTION workhorse.acquire_lease(
    wanted text, new_holder uuid, life_seconds float8, OUT given_token bigint, OUT left_seconds float8)
LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    SELECT CASE WHEN l.holder = new_holder THEN l.token ELSE 0 END, extract(epoch FROM l.ends_at - clock_timestamp())
      INTO given_token, left_seconds
      FROM workhorse.leases l WHERE l.name = wanted AND l.ends_at > clock_timestamp();
    IF FOUND THEN
        RETURN;
    END IF;
    INSERT INTO workhorse.leases AS l (name, holder, token, ends_at)
    VALUES (wanted, new_holder, nextval('workhorse.lease_tokens'), clock_timestamp() + make_interval(secs => life_seconds))
        ON CONFLICT (name) DO UPDATE
           SET holder = EXCLUDED.holder, token = nextval('workhorse.lease_tokens'),
               ends_at = clock_timestamp() + make_interval(secs => life_seconds)
         WHERE l.ends_at <= clock_timestamp()
        RETURNING l.token INTO given_token;
    left_seconds := life_seconds;
    IF NOT FOUND THEN
        -- Somebody was faster.
        SELECT CASE WHEN l.holder = new_holder THEN l.token ELSE 0 END, extract(epoch FROM l.ends_at - clock_timestamp())
          INTO given_token, left_seconds
          FROM workhorse.leases l WHERE l.name = wanted;
        given_token := coalesce(given_token, 0);
        left_seconds := greatest(coalesce(left_seconds, 0), 0);
    END IF;
END
$$;
