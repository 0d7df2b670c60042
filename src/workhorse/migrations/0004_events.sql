-- The journal: what happened, appended by the transactions in which it happened, and never changed.
-- Partitioned by its key, a UUID of version 7, whose first 48 bits are the time in milliseconds: so the key is unique
-- over all partitions, old months are dropped in an instant, and a reader who knows a time knows the range of keys.
CREATE TABLE workhorse.events (
    id          uuid        NOT NULL,                             -- version 7, made by the process that emitted it
    txid        xid8        NOT NULL DEFAULT pg_current_xact_id(), -- for the feed: what a snapshot had not seen
    type        text        NOT NULL,                             -- such as 'transfer.posted'
    subject     text        NOT NULL,                             -- to whom or what
    data        jsonb       NOT NULL,
    occurred_at timestamptz NOT NULL,                             -- by the clock of the process; the id says the same
    request_id  text,
    trace_id    text,
    principal   text,                                             -- the caller's id
    CONSTRAINT events_pkey PRIMARY KEY (id)
) PARTITION BY RANGE (id);

CREATE INDEX events_txid ON workhorse.events (txid);

-- Takes what no month takes, so that an event is never refused for want of a partition.
CREATE TABLE workhorse.events_rest PARTITION OF workhorse.events DEFAULT;

-- The smallest key of a time.
CREATE FUNCTION workhorse.first_event_id(since timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT rpad(lpad(to_hex(floor(extract(epoch FROM since) * 1000)::bigint), 12, '0'), 32, '0')::uuid
$$;

-- Makes the partitions of this month (UTC) and of those to come where they are missing, and moves in what the default
-- partition took in their stead. Any number of processes may call it at any time; it gives up rather than let others
-- queue behind it. Returns how many were made.
CREATE FUNCTION workhorse.prepare_event_partitions(months_ahead integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    month timestamp := date_trunc('month', now() AT TIME ZONE 'UTC');
    made  integer := 0;
    name  text;
    low   uuid;
    high  uuid;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('workhorse.events', 0)) THEN
        RETURN 0; -- another is at it
    END IF;
    PERFORM set_config('lock_timeout', '2s', true);
    FOR ahead IN 0..months_ahead LOOP
        name := 'events_' || to_char(month + make_interval(months => ahead), 'YYYY_MM');
        CONTINUE WHEN to_regclass('workhorse.' || name) IS NOT NULL;
        low  := workhorse.first_event_id((month + make_interval(months => ahead)) AT TIME ZONE 'UTC');
        high := workhorse.first_event_id((month + make_interval(months => ahead + 1)) AT TIME ZONE 'UTC');
        EXECUTE format('CREATE TABLE workhorse.%I (LIKE workhorse.events INCLUDING ALL)'
                       ' WITH (autovacuum_vacuum_insert_scale_factor = 0.05)', name);
        LOCK TABLE workhorse.events_rest IN SHARE ROW EXCLUSIVE MODE;
        EXECUTE format('WITH moved AS (DELETE FROM workhorse.events_rest WHERE id >= %L AND id < %L RETURNING *)'
                       ' INSERT INTO workhorse.%I SELECT * FROM moved', low, high, name);
        EXECUTE format('ALTER TABLE workhorse.events ATTACH PARTITION workhorse.%I FOR VALUES FROM (%L) TO (%L)',
                       name, low, high);
        made := made + 1;
    END LOOP;
    RETURN made;
END
$$;

-- Drops the months that ended before a day, and what the default partition has of that time. Who reads the journal must
-- be past them: nothing here knows. Returns how many were dropped.
CREATE FUNCTION workhorse.drop_event_partitions(before date) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    dropped integer := 0;
    name    text;
    first   date := date_trunc('month', before)::date;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    FOR name IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = 'workhorse.events'::regclass AND c.relname ~ '^events_\d{4}_\d{2}$'
           AND to_date(substr(c.relname, 8), 'YYYY_MM') < first
         ORDER BY c.relname
    LOOP
        EXECUTE format('ALTER TABLE workhorse.events DETACH PARTITION workhorse.%I', name);
        EXECUTE format('DROP TABLE workhorse.%I', name);
        dropped := dropped + 1;
    END LOOP;
    DELETE FROM workhorse.events_rest WHERE id < workhorse.first_event_id(first::timestamp AT TIME ZONE 'UTC');
    RETURN dropped;
END
$$;

SELECT workhorse.prepare_event_partitions(2);
