-- Relays: when a reader of the journal began, deliveries of webhooks, and months that are dropped only when all have
-- read them.

-- With the number of events that a reader was given it makes ids for outside systems that never come twice.
ALTER TABLE workhorse.feeds ADD COLUMN began_at timestamptz NOT NULL DEFAULT now();

-- What is known of the endpoint of a webhook beside the code: whether it works.
CREATE TABLE workhorse.webhook_endpoints (
    name            text        NOT NULL,
    failing_since   timestamptz,                 -- since when no delivery has succeeded; NULL: the last one did
    disabled_at     timestamptz,                 -- nothing is sent any more, and what comes waits
    disabled_reason text,
    CONSTRAINT webhook_endpoints_pkey PRIMARY KEY (name)
);

-- What is to be delivered. A row goes when the endpoint has taken it.
CREATE TABLE workhorse.webhook_deliveries (
    id         bigint      GENERATED ALWAYS AS IDENTITY,
    endpoint   text        NOT NULL,
    event_id   uuid        NOT NULL,             -- what the receiver tells a repeat by
    lane       text,                             -- of one lane one is under way at a time, in order; NULL: none
    body       text        NOT NULL,
    attempts   integer     NOT NULL DEFAULT 0,
    due_at     timestamptz NOT NULL DEFAULT now(), -- while it is sent: when it is taken for given up
    dead_at    timestamptz,                      -- tried often enough
    last_error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT webhook_deliveries_pkey PRIMARY KEY (id),
    CONSTRAINT webhook_deliveries_once UNIQUE (endpoint, event_id)
);

CREATE INDEX webhook_deliveries_due ON workhorse.webhook_deliveries (endpoint, due_at) WHERE dead_at IS NULL;
CREATE INDEX webhook_deliveries_lane ON workhorse.webhook_deliveries (endpoint, lane, id) WHERE dead_at IS NULL;

-- Who has not read all of a partition: the name of a reader, or NULL. Of `required` each must have begun to read.
CREATE FUNCTION workhorse.unread_by(partition regclass, before uuid, required text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    reader record;
    unread boolean;
BEGIN
    SELECT r INTO reader FROM unnest(required) r WHERE NOT EXISTS (SELECT FROM workhorse.feeds f WHERE f.name = r) LIMIT 1;
    IF FOUND THEN
        RETURN reader.r;
    END IF;
    FOR reader IN
        SELECT f.name, f.seen, f.cluster = c.system_identifier AS here
          FROM workhorse.feeds f, pg_control_system() c ORDER BY f.name
    LOOP
        IF NOT reader.here THEN
            RETURN reader.name; -- its snapshot means nothing here, so nobody knows what it has read
        END IF;
        EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE txid >= pg_snapshot_xmin($1)'
                       ' AND NOT pg_visible_in_snapshot(txid, $1) AND id < $2)', partition)
           INTO unread USING reader.seen, before;
        IF unread THEN
            RETURN reader.name;
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;

-- Drops the months that ended before a day, the oldest first, until one that a reader has not read to its end. Returns
-- how many were dropped, and that reader's name.
CREATE FUNCTION workhorse.drop_read_event_partitions(
    before date, required text[], OUT dropped integer, OUT held_by text
) LANGUAGE plpgsql AS $$
DECLARE
    part  regclass;
    first date := date_trunc('month', before)::date;
    low   uuid := workhorse.first_event_id(first::timestamp AT TIME ZONE 'UTC');
BEGIN
    dropped := 0;
    PERFORM set_config('lock_timeout', '2s', true);
    FOR part IN
        SELECT c.oid::regclass FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = 'workhorse.events'::regclass AND c.relname ~ '^events_\d{4}_\d{2}$'
           AND to_date(substr(c.relname, 8), 'YYYY_MM') < first
         ORDER BY c.relname
    LOOP
        -- Before the look, so that nothing is committed into it after.
        EXECUTE format('LOCK TABLE %s IN SHARE MODE', part);
        held_by := workhorse.unread_by(part, low, required);
        IF held_by IS NOT NULL THEN
            RETURN;
        END IF;
        EXECUTE format('ALTER TABLE workhorse.events DETACH PARTITION %s', part);
        EXECUTE format('DROP TABLE %s', part);
        dropped := dropped + 1;
    END LOOP;
    IF EXISTS (SELECT FROM workhorse.events_rest WHERE id < low) THEN
        LOCK TABLE workhorse.events_rest IN SHARE ROW EXCLUSIVE MODE;
        held_by := workhorse.unread_by('workhorse.events_rest', low, required);
        IF held_by IS NULL THEN
            DELETE FROM workhorse.events_rest WHERE id < low;
        END IF;
    END IF;
END
$$;
