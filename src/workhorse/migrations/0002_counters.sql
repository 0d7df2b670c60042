-- The counters of rate limits that are kept in Postgres, one row per limit and caller. Unlogged: a take then waits for
-- no disk, and a crash of the server empties the table, which makes every counter full.
CREATE UNLOGGED TABLE workhorse.counters (
    key uuid   NOT NULL CONSTRAINT counters_pkey PRIMARY KEY, -- digest of the limit and whose it is
    tat bigint NOT NULL                                       -- when it is full again, in microseconds since 1970
) WITH (
    -- A row is updated at every take: room for the new version on the same page keeps the index out of it.
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05
);

-- Moves every counter on by its charge, or, if one of them would then lie further ahead than its depth, none. Returns
-- the time of the decision and where each counter stood before; the caller works out what that means. The keys come
-- in ascending order: two takes that share several lock them in the same one, and never wait for each other in a ring.
-- The time is read when all locks are held, so that it never goes back from one take of a counter to its next.
-- Without sequential scans, because a plan that was made while the table was small is kept while it grows.
CREATE FUNCTION workhorse.take_counters(keys uuid[], charges bigint[], depths bigint[])
RETURNS TABLE (now_us bigint, tats bigint[])
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    admitted boolean := true;
    found_tat bigint;
BEGIN
    FOR i IN 1 .. cardinality(keys) LOOP
        -- The condition is never true, but the row is locked before it is asked.
        INSERT INTO workhorse.counters AS c (key, tat) VALUES (keys[i], 0)
            ON CONFLICT (key) DO UPDATE SET tat = c.tat WHERE false;
    END LOOP;
    now_us := extract(epoch FROM clock_timestamp()) * 1000000;
    FOR i IN 1 .. cardinality(keys) LOOP
        SELECT c.tat INTO STRICT found_tat FROM workhorse.counters c WHERE c.key = keys[i];
        tats[i] := found_tat;
        admitted := admitted AND greatest(found_tat, now_us) + charges[i] <= now_us + depths[i];
    END LOOP;
    IF admitted THEN
        FOR i IN 1 .. cardinality(keys) LOOP
            UPDATE workhorse.counters c SET tat = greatest(tats[i], now_us) + charges[i] WHERE c.key = keys[i];
        END LOOP;
    END IF;
    RETURN NEXT;
END
$$;
