-- Background jobs: one table of those that are to be done, one of those that were, one of the workers.
--
-- A job is `ready` or, before its time, `delayed`; `running` while a worker has it; `dead` after its last attempt. Of
-- the jobs with one ordering key only the first is in these states, its lane's head; the others are `waiting` behind
-- it. What has ended moves to `finished_jobs`.
CREATE TYPE workhorse.job_state AS ENUM ('ready', 'running', 'delayed', 'waiting', 'dead');
CREATE TYPE workhorse.job_outcome AS ENUM ('done', 'cancelled', 'dead');

CREATE TABLE workhorse.jobs (
    id            uuid        NOT NULL CONSTRAINT jobs_pkey PRIMARY KEY, -- UUID version 7, made by who enqueues
    seq           bigint      GENERATED ALWAYS AS IDENTITY,              -- the order of a key, and within a priority
    enqueued_at   timestamptz NOT NULL DEFAULT now(),
    run_at        timestamptz NOT NULL,                                  -- not before
    started_at    timestamptz,                                           -- of the latest attempt
    worker        uuid,                                                  -- who runs it; with `attempt` the fence
    unique_digest uuid,                                                  -- what of `job_uniques` ends with the job
    state         workhorse.job_state NOT NULL,
    version       smallint    NOT NULL,                                  -- of the arguments
    priority      smallint    NOT NULL,                                  -- higher goes first
    attempt       smallint    NOT NULL DEFAULT 0,                        -- how often it was begun; it only grows
    attempts_left smallint    NOT NULL,
    blocks        boolean     NOT NULL,                                  -- dead, it holds up the later ones of its key
    cancelled     boolean     NOT NULL DEFAULT false,                    -- somebody asked the running job to stop
    name          text        NOT NULL,
    queue         text        NOT NULL,
    key           text,                                                  -- jobs of one queue and key run in order
    arguments     json        NOT NULL,
    origin        json,                                                  -- trace and caller of who enqueued it
    progress      json,                                                  -- what the job says of itself
    failures      jsonb                                                  -- the latest failed attempts, oldest first
) WITH (
    -- Rows come and go by the thousand: the room of the dead is used again soon, and plans know the table as it is.
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_insert_scale_factor = 0.1,
    autovacuum_analyze_scale_factor = 0.05,
    autovacuum_analyze_threshold = 1000
);

CREATE INDEX jobs_ready ON workhorse.jobs (queue, priority DESC, seq) WHERE state = 'ready';
CREATE INDEX jobs_delayed ON workhorse.jobs (queue, run_at) WHERE state = 'delayed';
CREATE INDEX jobs_dead ON workhorse.jobs (run_at) WHERE state = 'dead';
CREATE INDEX jobs_waiting ON workhorse.jobs (queue, key, seq) WHERE state = 'waiting';
-- The promise of a key, kept by the database: at most one job of it is on its way.
CREATE UNIQUE INDEX jobs_lane_head ON workhorse.jobs (queue, key)
    WHERE key IS NOT NULL AND (state IN ('ready', 'running', 'delayed') OR (state = 'dead' AND blocks));

-- What may not be enqueued again: until the job has ended (`until` is infinity), or until a time.
CREATE TABLE workhorse.job_uniques (
    digest uuid        NOT NULL CONSTRAINT job_uniques_pkey PRIMARY KEY, -- of the job's name and its unique key
    job    uuid        NOT NULL,
    until  timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
CREATE INDEX job_uniques_until ON workhorse.job_uniques (until) WHERE until < 'infinity';

-- The results of a job's finished steps, each committed with the step's effects.
CREATE TABLE workhorse.job_steps (
    job     uuid        NOT NULL,
    step    text        NOT NULL,
    result  json        NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT job_steps_pkey PRIMARY KEY (job, step)
);

-- The history, a partition a day, so that old days go as a whole. Without arguments: they may be personal data.
CREATE TABLE workhorse.finished_jobs (
    id          uuid        NOT NULL,
    enqueued_at timestamptz NOT NULL,
    started_at  timestamptz,
    finished_at timestamptz NOT NULL,
    worker      uuid,
    outcome     workhorse.job_outcome NOT NULL,
    attempt     smallint    NOT NULL,
    name        text        NOT NULL,
    queue       text        NOT NULL,
    key         text,
    origin      json,
    failures    jsonb
) PARTITION BY RANGE (finished_at);
CREATE INDEX finished_jobs_id ON workhorse.finished_jobs (id);
-- For days whose partition nobody made in time.
CREATE TABLE workhorse.finished_jobs_other PARTITION OF workhorse.finished_jobs DEFAULT;
CREATE INDEX finished_jobs_other_finished_at ON workhorse.finished_jobs_other (finished_at);

-- The processes that run jobs. One that has not said for long that it lives has lost its jobs.
CREATE TABLE workhorse.job_workers (
    id          uuid        NOT NULL CONSTRAINT job_workers_pkey PRIMARY KEY,
    name        text        NOT NULL,              -- host and process, for people
    queues      text[]      NOT NULL,
    concurrency integer     NOT NULL,
    running     integer     NOT NULL DEFAULT 0,
    sleeping    boolean     NOT NULL DEFAULT false, -- whoever enqueues has to wake it
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    beat_at     timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 200);

-- Recurring jobs, and the latest tick of each that was dealt with.
CREATE TABLE workhorse.job_schedules (
    name    text        NOT NULL CONSTRAINT job_schedules_pkey PRIMARY KEY,
    tick_at timestamptz NOT NULL
);

-- When each chore of upkeep was last done, by whichever worker.
CREATE TABLE workhorse.job_chores (
    name    text        NOT NULL CONSTRAINT job_chores_pkey PRIMARY KEY,
    done_at timestamptz NOT NULL
);

-- Partitions of the history for today and the given number of days to come. Returns how many were made.
-- Whoever waits for its lock is waited for by every job that ends: so not for long, but again in an hour.
CREATE FUNCTION workhorse.prepare_finished_jobs(days_ahead integer) RETURNS integer
LANGUAGE plpgsql SET lock_timeout = '1s' AS $$
DECLARE
    day date;
    made integer := 0;
BEGIN
    FOR i IN 0 .. days_ahead LOOP
        day := (now() AT TIME ZONE 'UTC')::date + i;
        CONTINUE WHEN to_regclass('workhorse.finished_jobs_' || to_char(day, 'YYYYMMDD')) IS NOT NULL;
        EXECUTE format(
            'CREATE TABLE workhorse.%I PARTITION OF workhorse.finished_jobs FOR VALUES FROM (%L) TO (%L)',
            'finished_jobs_' || to_char(day, 'YYYYMMDD'),
            day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
        made := made + 1;
    END LOOP;
    RETURN made;
END
$$;

-- Drops the days that ended before `oldest`. Returns how many.
CREATE FUNCTION workhorse.drop_finished_jobs(oldest timestamptz) RETURNS integer
LANGUAGE plpgsql SET lock_timeout = '1s' AS $$
DECLARE
    part text;
    dropped integer := 0;
BEGIN
    FOR part IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = 'workhorse.finished_jobs'::regclass AND c.relname ~ '^finished_jobs_\d{8}$'
    LOOP
        CONTINUE WHEN (to_date(right(part, 8), 'YYYYMMDD') + 1)::timestamp AT TIME ZONE 'UTC' > oldest;
        EXECUTE format('DROP TABLE workhorse.%I', part);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END
$$;

SELECT workhorse.prepare_finished_jobs(14);

-- The number that stands for a lane among advisory locks. Two lanes of one number only wait for each other at times.
CREATE FUNCTION workhorse.job_lane(queue text, key text) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT hashtext(queue || chr(31) || key) $$;

-- Holds the lanes to the end of the transaction: between a look at who is head and the commit of what follows from it
-- nobody else may look. In ascending order, so that two transactions never wait for each other in a ring.
CREATE FUNCTION workhorse.hold_job_lanes(lanes integer[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    lane integer;
BEGIN
    FOR lane IN SELECT DISTINCT l FROM unnest(lanes) l ORDER BY l LOOP
        PERFORM pg_advisory_xact_lock(1785684595, lane); -- "jobs" in ASCII
    END LOOP;
END
$$;

-- Wakes workers that sleep. NOTIFY takes a lock of the whole cluster at COMMIT, so it is spared where nobody sleeps. A
-- worker that falls asleep meanwhile waits for the transactions that could not see that (`look_for_jobs`). One that
-- sees the past only (REPEATABLE READ and above) cannot know, and always calls.
CREATE FUNCTION workhorse.wake_job_workers(woken text[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed'
       OR EXISTS (SELECT FROM workhorse.job_workers w WHERE w.sleeping AND w.queues && woken) THEN
        PERFORM pg_notify('workhorse_jobs', q) FROM unnest(woken) q;
    END IF;
END
$$;

-- Writes jobs, in order. `keyed` and `uniquely` say whether any of them has an ordering key or a unique one.
-- A transaction that sees the past only cannot tell who is head: its keyed jobs wait for `mend_job_lanes`.
CREATE FUNCTION workhorse.enqueue_jobs(given json, keyed boolean, uniquely boolean) RETURNS integer
LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    present boolean := current_setting('transaction_isolation') = 'read committed';
    refused uuid[] := '{}';
    counted integer;
    woken text[];
BEGIN
    IF keyed THEN
        PERFORM workhorse.hold_job_lanes(array_agg(workhorse.job_lane(g.queue, g.key)))
           FROM json_to_recordset(given) AS g (queue text, key text) WHERE g.key IS NOT NULL;
    END IF;
    IF uniquely THEN
        WITH wanted AS (
            SELECT DISTINCT ON (g.unique_digest) g.id, g.unique_digest,
                   coalesce(clock_timestamp() + make_interval(secs => g.unique_seconds), 'infinity') AS until
              FROM json_to_recordset(given) AS g (id uuid, unique_digest uuid, unique_seconds float8)
             WHERE g.unique_digest IS NOT NULL
             ORDER BY g.unique_digest, g.id
        ), won AS (
            INSERT INTO workhorse.job_uniques AS u (digest, job, until)
            SELECT w.unique_digest, w.id, w.until FROM wanted w ORDER BY w.unique_digest
                ON CONFLICT (digest) DO UPDATE SET job = excluded.job, until = excluded.until
                   WHERE u.until <= clock_timestamp()
            RETURNING u.job
        )
        SELECT coalesce(array_agg(g.id), '{}') INTO refused
          FROM json_to_recordset(given) AS g (id uuid, unique_digest uuid)
         WHERE g.unique_digest IS NOT NULL AND g.id NOT IN (SELECT won.job FROM won);
    END IF;
    IF NOT keyed AND NOT uniquely THEN
        WITH added AS (
            INSERT INTO workhorse.jobs (id, run_at, state, version, priority, attempts_left, blocks, name, queue,
                                        arguments, origin)
            SELECT g.id, t.run_at, CASE WHEN t.run_at > now() THEN 'delayed' ELSE 'ready' END::workhorse.job_state,
                   g.version, g.priority, g.attempts, g.blocks, g.name, g.queue, g.arguments, g.origin
              FROM json_to_recordset(given) AS g (
                   id uuid, at timestamptz, delay float8, version smallint, priority smallint, attempts smallint,
                   blocks boolean, name text, queue text, arguments json, origin json)
             CROSS JOIN LATERAL (SELECT coalesce(g.at, now() + make_interval(secs => coalesce(g.delay, 0)))) AS t (run_at)
            RETURNING queue
        )
        SELECT count(*), array_agg(DISTINCT queue) INTO counted, woken FROM added;
        PERFORM workhorse.wake_job_workers(woken);
        RETURN counted;
    END IF;
    WITH added AS (
        INSERT INTO workhorse.jobs (id, run_at, unique_digest, state, version, priority, attempts_left, blocks, name,
                                    queue, key, arguments, origin)
        SELECT g.id, t.run_at, CASE WHEN g.unique_seconds IS NULL THEN g.unique_digest END,
               CASE WHEN g.key IS NOT NULL AND (
                             NOT present
                             OR row_number() OVER (PARTITION BY g.queue, g.key ORDER BY g.place) > 1
                             OR EXISTS (SELECT FROM workhorse.jobs j WHERE j.queue = g.queue AND j.key = g.key
                                           AND j.state = 'waiting')
                             OR EXISTS (SELECT FROM workhorse.jobs j WHERE j.queue = g.queue AND j.key = g.key
                                           AND (j.state IN ('ready', 'running', 'delayed')
                                                OR (j.state = 'dead' AND j.blocks))))
                    THEN 'waiting'
                    WHEN t.run_at > now() THEN 'delayed' ELSE 'ready' END::workhorse.job_state,
               g.version, g.priority, g.attempts, g.blocks, g.name, g.queue, g.key, g.arguments, g.origin
          FROM ROWS FROM (json_to_recordset(given) AS (
                   id uuid, at timestamptz, delay float8, unique_digest uuid, unique_seconds float8, version smallint,
                   priority smallint, attempts smallint, blocks boolean, name text, queue text, key text,
                   arguments json, origin json)) WITH ORDINALITY
               AS g (id, at, delay, unique_digest, unique_seconds, version, priority, attempts, blocks, name, queue, key,
                     arguments, origin, place)
         CROSS JOIN LATERAL (SELECT coalesce(g.at, now() + make_interval(secs => coalesce(g.delay, 0)))) AS t (run_at)
         WHERE g.id <> ALL (refused)
         ORDER BY g.place
        RETURNING queue
    )
    SELECT count(*), array_agg(DISTINCT queue) INTO counted, woken FROM added;
    IF counted > 0 THEN
        PERFORM workhorse.wake_job_workers(woken);
    END IF;
    RETURN counted;
END
$$;

-- Lets the next job of each lane go, where none is on its way. The lanes come as JSON: [{"queue": ..., "key": ...}].
CREATE FUNCTION workhorse.advance_job_lanes(lanes json) RETURNS integer
LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    counted integer;
    woken text[];
BEGIN
    PERFORM workhorse.hold_job_lanes(array_agg(workhorse.job_lane(l.queue, l.key)))
       FROM json_to_recordset(lanes) AS l (queue text, key text);
    WITH lane AS (
        SELECT DISTINCT l.queue, l.key FROM json_to_recordset(lanes) AS l (queue text, key text)
    ), advanced AS (
        UPDATE workhorse.jobs j
           SET state = CASE WHEN j.run_at > now() THEN 'delayed' ELSE 'ready' END::workhorse.job_state
          FROM lane l
         WHERE j.id = (SELECT n.id FROM workhorse.jobs n
                        WHERE n.queue = l.queue AND n.key = l.key AND n.state = 'waiting' ORDER BY n.seq LIMIT 1)
           AND NOT EXISTS (SELECT FROM workhorse.jobs h WHERE h.queue = l.queue AND h.key = l.key
                              AND (h.state IN ('ready', 'running', 'delayed') OR (h.state = 'dead' AND h.blocks)))
        RETURNING j.queue
    )
    SELECT count(*), array_agg(DISTINCT queue) INTO counted, woken FROM advanced;
    IF counted > 0 THEN
        PERFORM workhorse.wake_job_workers(woken);
    END IF;
    RETURN counted;
END
$$;

-- Moves jobs that are done to the history, but only where worker and attempt still match: who was taken for dead, and
-- woke up, ends nothing. `stepped`: some have steps, which end with them. Returns those that were ended.
CREATE FUNCTION workhorse.finish_jobs(by_worker uuid, ids uuid[], attempts smallint[], stepped boolean)
RETURNS SETOF uuid LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    ended uuid[];
    lanes json;
BEGIN
    WITH done AS (
        DELETE FROM workhorse.jobs j USING unnest(ids, attempts) AS d (id, attempt)
         WHERE j.id = d.id AND j.attempt = d.attempt AND j.worker = by_worker AND j.state = 'running'
        RETURNING j.id, j.enqueued_at, j.started_at, j.unique_digest, j.attempt, j.name, j.queue, j.key, j.origin,
                  j.failures
    ), kept AS (
        INSERT INTO workhorse.finished_jobs (id, enqueued_at, started_at, finished_at, worker, outcome, attempt, name,
                                             queue, key, origin, failures)
        SELECT d.id, d.enqueued_at, d.started_at, clock_timestamp(), by_worker, 'done', d.attempt, d.name, d.queue,
               d.key, d.origin, d.failures
          FROM done d
    ), freed AS (
        DELETE FROM workhorse.job_uniques u USING done d
         WHERE u.digest = d.unique_digest AND u.job = d.id
    )
    SELECT array_agg(d.id),
           json_agg(json_build_object('queue', d.queue, 'key', d.key)) FILTER (WHERE d.key IS NOT NULL)
      INTO ended, lanes FROM done d;
    IF stepped THEN
        DELETE FROM workhorse.job_steps s WHERE s.job = ANY (ended);
    END IF;
    IF lanes IS NOT NULL THEN
        PERFORM workhorse.advance_job_lanes(lanes);
    END IF;
    RETURN QUERY SELECT unnest(ended);
END
$$;

-- The same for one job, as the last statement of its own transaction: it fails, and with it the transaction, where the
-- job is not this worker's any more. In plain statements, because there is one of it for every job with effects.
CREATE FUNCTION workhorse.complete_job(of_job uuid, by_worker uuid, of_attempt smallint, stepped boolean) RETURNS void
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    done record;
BEGIN
    DELETE FROM workhorse.jobs j
     WHERE j.id = of_job AND j.worker = by_worker AND j.attempt = of_attempt AND j.state = 'running'
    RETURNING j.enqueued_at, j.started_at, j.unique_digest, j.name, j.queue, j.key, j.origin, j.failures INTO done;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the job % is not the attempt % of this worker any more', of_job, of_attempt
            USING ERRCODE = 'WHJ01';
    END IF;
    INSERT INTO workhorse.finished_jobs (id, enqueued_at, started_at, finished_at, worker, outcome, attempt, name,
                                         queue, key, origin, failures)
    VALUES (of_job, done.enqueued_at, done.started_at, clock_timestamp(), by_worker, 'done', of_attempt, done.name,
            done.queue, done.key, done.origin, done.failures);
    IF done.unique_digest IS NOT NULL THEN
        DELETE FROM workhorse.job_uniques u WHERE u.digest = done.unique_digest AND u.job = of_job;
    END IF;
    IF stepped THEN
        DELETE FROM workhorse.job_steps s WHERE s.job = of_job;
    END IF;
    IF done.key IS NOT NULL THEN
        PERFORM workhorse.advance_job_lanes(json_build_array(json_build_object('queue', done.queue, 'key', done.key)));
    END IF;
END
$$;

-- Takes up to `most` jobs of these queues, the highest priority first, and what has become due with them. Nothing at
-- all for a worker that was taken for dead: the lock keeps that from happening meanwhile.
CREATE FUNCTION workhorse.claim_jobs(by_worker uuid, from_queues text[], most integer)
RETURNS TABLE (id uuid, attempt smallint, version smallint, seq bigint, priority smallint, attempts_left smallint,
               has_run boolean, name text, queue text, key text, arguments text, origin text, waited float8)
LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1785684595 + 1, hashtext(by_worker::text));
    IF NOT EXISTS (SELECT FROM workhorse.job_workers w WHERE w.id = by_worker) THEN
        RETURN;
    END IF;
    RETURN QUERY
        UPDATE workhorse.jobs j
           SET state = 'running', worker = by_worker, attempt = j.attempt + 1, attempts_left = j.attempts_left - 1,
               started_at = clock_timestamp()
         WHERE j.ctid = ANY (ARRAY(
               SELECT c.ctid
                 FROM unnest(from_queues) q
                CROSS JOIN LATERAL (
                      SELECT r.ctid, r.priority, r.seq FROM workhorse.jobs r
                       WHERE r.queue = q AND r.state = 'ready'
                       ORDER BY r.priority DESC, r.seq LIMIT most FOR UPDATE SKIP LOCKED) c
                ORDER BY c.priority DESC, c.seq LIMIT most))
        RETURNING j.id, j.attempt, j.version, j.seq, j.priority, j.attempts_left,
                  j.attempt > 1, j.name, j.queue, j.key, j.arguments::text, j.origin::text,
                  extract(epoch FROM clock_timestamp() - greatest(j.run_at, j.enqueued_at))::float8;
END
$$;

-- A turn of a worker, in one transaction: what is done ends, what is ready begins.
CREATE FUNCTION workhorse.turn_jobs(by_worker uuid, ids uuid[], attempts smallint[], stepped boolean,
                                    from_queues text[], most integer)
RETURNS TABLE (id uuid, attempt smallint, version smallint, seq bigint, priority smallint, attempts_left smallint,
               has_run boolean, name text, queue text, key text, arguments text, origin text, waited float8)
LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(ids) > 0 THEN
        PERFORM workhorse.finish_jobs(by_worker, ids, attempts, stepped);
    END IF;
    IF most > 0 THEN
        RETURN QUERY SELECT * FROM workhorse.claim_jobs(by_worker, from_queues, most);
    END IF;
END
$$;

-- Makes ready what has become due.
CREATE FUNCTION workhorse.line_up_jobs(from_queues text[], most integer) RETURNS integer
LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    counted integer;
BEGIN
    UPDATE workhorse.jobs j SET state = 'ready'
     WHERE j.ctid = ANY (ARRAY(
           SELECT c.ctid FROM unnest(from_queues) q
            CROSS JOIN LATERAL (
                  SELECT d.ctid FROM workhorse.jobs d
                   WHERE d.queue = q AND d.state = 'delayed' AND d.run_at <= clock_timestamp()
                   ORDER BY d.run_at LIMIT most FOR UPDATE SKIP LOCKED) c));
    GET DIAGNOSTICS counted = ROW_COUNT;
    RETURN counted;
END
$$;

-- What a worker needs to know before it sleeps. `oldest`: the oldest transaction that still writes; `newest`: the next
-- one to come. Once `oldest` has reached the `newest` of when the worker lay down, everybody who could not see it
-- sleeping has ended. `due_in`: seconds to the next delayed job.
CREATE FUNCTION workhorse.look_for_jobs(from_queues text[])
RETURNS TABLE (oldest bigint, newest bigint, due_in float8)
LANGUAGE sql STABLE SET enable_seqscan = off AS $$
    SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
           pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
           (SELECT extract(epoch FROM min(n.run_at) - clock_timestamp())::float8
              FROM unnest(from_queues) q
             CROSS JOIN LATERAL (SELECT d.run_at FROM workhorse.jobs d WHERE d.queue = q AND d.state = 'delayed'
                                  ORDER BY d.run_at LIMIT 1) n)
$$;

-- Adds to the failures of a job, of which the latest ten are kept.
CREATE FUNCTION workhorse.add_job_failure(failures jsonb, failure jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN jsonb_array_length(coalesce(failures, '[]')) >= 10 THEN failures - 0 ELSE coalesce(failures, '[]') END
           || jsonb_build_array(failure)
$$;

-- Ends a failed attempt, fenced as `finish_jobs` is: the job is tried again in `retry_in` seconds, or is dead where
-- that is null or no attempt is left. Returns 'retried', 'dead', or 'lost' where it is not this worker's any more.
CREATE FUNCTION workhorse.fail_job(of_job uuid, by_worker uuid, of_attempt smallint, failure jsonb, retry_in float8)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    failed record;
BEGIN
    UPDATE workhorse.jobs j
       SET state = CASE WHEN retry_in IS NULL OR j.attempts_left <= 0 THEN 'dead'
                        WHEN retry_in <= 0 THEN 'ready' ELSE 'delayed' END::workhorse.job_state,
           run_at = clock_timestamp() + make_interval(secs => coalesce(retry_in, 0)),
           worker = NULL, cancelled = false,
           failures = workhorse.add_job_failure(j.failures, failure || jsonb_build_object('at', now()))
     WHERE j.id = of_job AND j.worker = by_worker AND j.attempt = of_attempt AND j.state = 'running'
    RETURNING j.state, j.blocks, j.queue, j.key, j.unique_digest INTO failed;
    IF NOT FOUND THEN
        RETURN 'lost';
    END IF;
    IF failed.state <> 'dead' THEN
        RETURN 'retried';
    END IF;
    PERFORM workhorse.bury_jobs(ARRAY[of_job]);
    RETURN 'dead';
END
$$;

-- What follows from jobs having died: they may be enqueued again, and unless they block it their lane goes on.
CREATE FUNCTION workhorse.bury_jobs(ids uuid[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    lanes json;
BEGIN
    DELETE FROM workhorse.job_uniques u USING workhorse.jobs j
     WHERE j.id = ANY (ids) AND u.digest = j.unique_digest AND u.job = j.id;
    SELECT json_agg(json_build_object('queue', j.queue, 'key', j.key)) INTO lanes
      FROM workhorse.jobs j WHERE j.id = ANY (ids) AND j.key IS NOT NULL AND NOT j.blocks;
    IF lanes IS NOT NULL THEN
        PERFORM workhorse.advance_job_lanes(lanes);
    END IF;
END
$$;

-- Gives back jobs that were not begun after all: the worker stops, or knows nothing of such a job. The attempt does
-- not count, though its number stays: a number is never given twice.
CREATE FUNCTION workhorse.release_jobs(by_worker uuid, ids uuid[], attempts smallint[], retry_in float8)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    counted integer;
    woken text[];
BEGIN
    WITH released AS (
        UPDATE workhorse.jobs j
           SET state = CASE WHEN retry_in > 0 THEN 'delayed' ELSE 'ready' END::workhorse.job_state,
               run_at = CASE WHEN retry_in > 0 THEN clock_timestamp() + make_interval(secs => retry_in)
                             ELSE j.run_at END,
               worker = NULL, attempts_left = j.attempts_left + 1
          FROM unnest(ids, attempts) AS d (id, attempt)
         WHERE j.id = d.id AND j.attempt = d.attempt AND j.worker = by_worker AND j.state = 'running'
        RETURNING j.queue
    )
    SELECT count(*), array_agg(DISTINCT queue) INTO counted, woken FROM released;
    IF counted > 0 THEN
        PERFORM workhorse.wake_job_workers(woken);
    END IF;
    RETURN counted;
END
$$;

-- Says that a worker lives. `alive` is false for one that was taken for dead. `cancelled`: its jobs that somebody
-- wants to stop.
CREATE FUNCTION workhorse.beat_job_worker(by_worker uuid, lease_seconds float8, now_running uuid[])
RETURNS TABLE (alive boolean, cancelled uuid[], lost integer)
LANGUAGE plpgsql AS $$
DECLARE
    before timestamptz;
BEGIN
    SELECT w.beat_at INTO before FROM workhorse.job_workers w WHERE w.id = by_worker FOR NO KEY UPDATE;
    alive := FOUND;
    lost := 0;
    IF alive THEN
        UPDATE workhorse.job_workers w SET beat_at = clock_timestamp(), running = cardinality(now_running)
         WHERE w.id = by_worker;
        -- After an outage of the database everybody looks dead. Only who was in touch itself may judge others.
        IF before > clock_timestamp() - make_interval(secs => lease_seconds) THEN
            lost := workhorse.reap_job_workers(lease_seconds);
        END IF;
    END IF;
    cancelled := ARRAY(SELECT j.id FROM workhorse.jobs j
                        WHERE j.id = ANY (now_running) AND j.worker = by_worker AND j.cancelled);
    RETURN NEXT;
END
$$;

-- Takes the jobs of workers that have not beaten for so long. Their attempt counts: a job that kills its workers must
-- come to an end. From the second time on they come back spread over time, so that it does not kill the same others.
CREATE FUNCTION workhorse.reap_job_workers(lease_seconds float8) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    dead_worker uuid;
    dead_name text;
    counted integer := 0;
    buried uuid[];
    woken text[];
    taken integer;
BEGIN
    FOR dead_worker, dead_name IN
        SELECT w.id, w.name FROM workhorse.job_workers w
         WHERE w.beat_at < clock_timestamp() - make_interval(secs => lease_seconds) FOR UPDATE SKIP LOCKED
    LOOP
        PERFORM pg_advisory_xact_lock(1785684595 + 1, hashtext(dead_worker::text));
        WITH orphans AS (
            UPDATE workhorse.jobs j
               SET state = CASE WHEN j.attempts_left <= 0 THEN 'dead'
                                WHEN j.attempt > 1 THEN 'delayed' ELSE 'ready' END::workhorse.job_state,
                   run_at = CASE WHEN j.attempt > 1 AND j.attempts_left > 0
                                 THEN clock_timestamp() + make_interval(secs => random() * least(60, 2 ^ j.attempt))
                                 ELSE j.run_at END,
                   worker = NULL,
                   failures = workhorse.add_job_failure(j.failures, jsonb_build_object(
                       'attempt', j.attempt, 'at', now(), 'worker', dead_name, 'error', 'WorkerLost',
                       'message', format('the worker was not heard of for %s s', lease_seconds)))
             WHERE j.worker = dead_worker AND j.state = 'running'
            RETURNING j.id, j.state, j.queue
        )
        SELECT count(*), array_agg(o.id) FILTER (WHERE o.state = 'dead'), array_agg(DISTINCT o.queue)
          INTO taken, buried, woken FROM orphans o;
        DELETE FROM workhorse.job_workers w WHERE w.id = dead_worker;
        counted := counted + taken;
        PERFORM workhorse.bury_jobs(buried);
        PERFORM workhorse.wake_job_workers(woken);
    END LOOP;
    RETURN counted;
END
$$;

-- Finds lanes that wait for nobody, and lets them go on. They come from transactions that could see the past only.
CREATE FUNCTION workhorse.mend_job_lanes(most integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    lanes json;
BEGIN
    SELECT json_agg(json_build_object('queue', l.queue, 'key', l.key)) INTO lanes
      FROM (SELECT DISTINCT w.queue, w.key FROM workhorse.jobs w
             WHERE w.state = 'waiting'
               AND NOT EXISTS (SELECT FROM workhorse.jobs h WHERE h.queue = w.queue AND h.key = w.key
                                  AND (h.state IN ('ready', 'running', 'delayed') OR (h.state = 'dead' AND h.blocks)))
             LIMIT most) l;
    RETURN CASE WHEN lanes IS NULL THEN 0 ELSE workhorse.advance_job_lanes(lanes) END;
END
$$;

-- Keeps the result of a step, in the transaction of its effects. It fails, and they with it, where the job is not this
-- worker's any more; the lock keeps it from being taken away until they stand.
CREATE FUNCTION workhorse.keep_job_step(of_job uuid, by_worker uuid, of_attempt smallint, of_step text, outcome json)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM workhorse.jobs j
      WHERE j.id = of_job AND j.worker = by_worker AND j.attempt = of_attempt AND j.state = 'running' FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the job % is not the attempt % of this worker any more', of_job, of_attempt
            USING ERRCODE = 'WHJ01';
    END IF;
    INSERT INTO workhorse.job_steps (job, step, result) VALUES (of_job, of_step, outcome);
END
$$;

-- Deals with one tick of a schedule: true for one caller of all, whose jobs are enqueued.
CREATE FUNCTION workhorse.tick_job_schedule(of_schedule text, tick timestamptz, given json, keyed boolean,
                                            uniquely boolean)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    UPDATE workhorse.job_schedules s SET tick_at = tick WHERE s.name = of_schedule AND s.tick_at < tick;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM workhorse.enqueue_jobs(given, keyed, uniquely);
    RETURN true;
END
$$;

-- Ends a job that somebody does not want any more. One that runs is asked to stop, by its worker. Returns 'cancelled',
-- 'asked', or null where there is no such job.
CREATE FUNCTION workhorse.cancel_job(of_job uuid) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    ended record;
BEGIN
    WITH gone AS (
        DELETE FROM workhorse.jobs j WHERE j.id = of_job AND j.state <> 'running'
        RETURNING j.id, j.enqueued_at, j.started_at, j.unique_digest, j.attempt, j.name, j.queue, j.key, j.origin,
                  j.failures
    ), kept AS (
        INSERT INTO workhorse.finished_jobs (id, enqueued_at, started_at, finished_at, outcome, attempt, name, queue,
                                             key, origin, failures)
        SELECT g.id, g.enqueued_at, g.started_at, clock_timestamp(), 'cancelled', g.attempt, g.name, g.queue, g.key,
               g.origin, g.failures
          FROM gone g
    ), freed AS (
        DELETE FROM workhorse.job_uniques u USING gone g WHERE u.digest = g.unique_digest AND u.job = g.id
    )
    SELECT g.queue, g.key INTO ended FROM gone g;
    IF FOUND THEN
        DELETE FROM workhorse.job_steps s WHERE s.job = of_job;
        IF ended.key IS NOT NULL THEN
            PERFORM workhorse.advance_job_lanes(json_build_array(json_build_object('queue', ended.queue, 'key', ended.key)));
        END IF;
        RETURN 'cancelled';
    END IF;
    UPDATE workhorse.jobs j SET cancelled = true WHERE j.id = of_job;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    PERFORM pg_notify('workhorse_jobs', 'cancel:' || of_job);
    RETURN 'asked';
END
$$;

-- Ends a running job whose cancellation its worker has carried out, fenced as `finish_jobs` is.
CREATE FUNCTION workhorse.end_cancelled_job(of_job uuid, by_worker uuid, of_attempt smallint) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE workhorse.jobs j SET state = 'delayed', worker = NULL
     WHERE j.id = of_job AND j.worker = by_worker AND j.attempt = of_attempt AND j.state = 'running';
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM workhorse.cancel_job(of_job);
    RETURN true;
END
$$;

-- Tries a dead job again, with so many more attempts, or a delayed one at once. False where there is none such.
CREATE FUNCTION workhorse.retry_job(of_job uuid, more_attempts smallint) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    found_queue text;
    found_key text;
BEGIN
    SELECT j.queue, j.key INTO found_queue, found_key FROM workhorse.jobs j WHERE j.id = of_job;
    IF found_key IS NOT NULL THEN
        PERFORM workhorse.hold_job_lanes(ARRAY[workhorse.job_lane(found_queue, found_key)]);
    END IF;
    UPDATE workhorse.jobs j
       SET run_at = now(), attempts_left = CASE WHEN j.state = 'dead' THEN more_attempts ELSE j.attempts_left END,
           -- It keeps its place in its lane: next, behind whichever is on its way.
           state = CASE WHEN EXISTS (SELECT FROM workhorse.jobs h
                                      WHERE h.queue = j.queue AND h.key = j.key AND h.id <> j.id
                                        AND (h.state IN ('ready', 'running', 'delayed')
                                             OR (h.state = 'dead' AND h.blocks)))
                        THEN 'waiting' ELSE 'ready' END::workhorse.job_state
     WHERE j.id = of_job AND j.state IN ('dead', 'delayed');
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM workhorse.wake_job_workers(ARRAY[found_queue]);
    RETURN true;
END
$$;
