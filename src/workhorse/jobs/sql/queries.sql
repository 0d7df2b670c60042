-- name: enqueue
-- Write a JSON array of jobs, in order. Travels with COMMIT. As text, which every driver takes; asyncpg sends a boolean
-- for nothing but one of Python's.
SELECT workhorse.enqueue_jobs(%s::text::json, %s::text::boolean, %s::text::boolean)

-- name: register
-- Tell of a worker. It sleeps not. To tell again changes nothing: the answer may have been lost.
INSERT INTO workhorse.job_workers (id, name, queues, concurrency) VALUES (%s, %s, %s, %s) ON CONFLICT (id) DO NOTHING

-- name: leave
-- Forget a worker that has ended, and has no jobs any more.
DELETE FROM workhorse.job_workers WHERE id = %s

-- name: turn
-- End what is done, and begin what is ready, in one transaction.
SELECT id, attempt, version, seq, priority, attempts_left, has_run, name, queue, key, arguments, origin, waited
  FROM workhorse.turn_jobs(%s, %s, %s, %s, %s, %s)

-- name: complete
-- End one job with its own transaction, or fail it. Travels with COMMIT.
SELECT workhorse.complete_job(%s, %s, %s, %s::text::boolean)

-- name: fail
-- End a failed attempt; as cancelled where somebody has asked for that, and not to be tried again. The row is locked
-- first: whoever asks meanwhile finds a job that does not run. No row: it is not this worker's any more.
WITH given AS (
    SELECT %s::uuid AS job, %s::uuid AS worker, %s::smallint AS attempt, %s::jsonb AS failure, %s::float8 AS retry_in
), mine AS MATERIALIZED (
    SELECT g.*, j.cancelled FROM workhorse.jobs j, given g
     WHERE j.id = g.job AND j.worker = g.worker AND j.attempt = g.attempt AND j.state = 'running' FOR UPDATE OF j
)
SELECT CASE WHEN NOT m.cancelled THEN workhorse.fail_job(m.job, m.worker, m.attempt, m.failure, m.retry_in)
            WHEN workhorse.end_cancelled_job(m.job, m.worker, m.attempt) THEN 'cancelled' ELSE 'lost' END
  FROM mine m

-- name: release
-- Give back jobs that were not begun after all.
SELECT workhorse.release_jobs(%s, %s, %s, %s)

-- name: end_cancelled
-- End a job that was stopped because somebody asked for it.
SELECT workhorse.end_cancelled_job(%s, %s, %s)

-- name: sleep
-- Whether whoever enqueues has to wake this worker.
UPDATE workhorse.job_workers SET sleeping = %s WHERE id = %s

-- name: look
-- What a worker has to know before it waits.
SELECT oldest, newest, due_in FROM workhorse.look_for_jobs(%s)

-- name: line_up
-- Make ready what has become due.
SELECT workhorse.line_up_jobs(%s, %s)

-- name: beat
-- Say that a worker lives; take the jobs of those that do not.
SELECT alive, cancelled, lost FROM workhorse.beat_job_worker(%s, %s, %s)

-- name: progress
-- What a running job says of itself.
UPDATE workhorse.jobs SET progress = %s WHERE id = %s AND worker = %s AND attempt = %s AND state = 'running'

-- name: steps
-- The steps of a job that have been done.
SELECT step, result::text FROM workhorse.job_steps WHERE job = %s

-- name: keep_step
-- Keep the result of a step. Travels with COMMIT.
SELECT workhorse.keep_job_step(%s, %s, %s, %s, %s::text::json)

-- name: begin_schedule
-- Know a schedule from now on; returns seconds since 1970 of the latest tick that was dealt with.
INSERT INTO workhorse.job_schedules AS s (name, tick_at) VALUES (%s, now())
    ON CONFLICT (name) DO UPDATE SET name = s.name
RETURNING extract(epoch FROM tick_at)::float8

-- name: clock
-- Seconds since 1970.
SELECT extract(epoch FROM clock_timestamp())::float8

-- name: tick
-- Deal with one tick of a schedule, once in the cluster.
SELECT workhorse.tick_job_schedule(%s, to_timestamp(%s::float8), %s, %s, %s)

-- name: begin_chore
-- Whether a chore is this worker's to do: nobody has done it for so many seconds.
INSERT INTO workhorse.job_chores AS c (name, done_at) VALUES (%s, clock_timestamp())
    ON CONFLICT (name) DO UPDATE SET done_at = excluded.done_at
       WHERE c.done_at < clock_timestamp() - make_interval(secs => %s)
RETURNING true

-- name: take_in_strays
-- Make the partitions of those days, from today (UTC) on, whose jobs ended before anybody had made them, and move these
-- in: beside them in the default partition no such day can be made. Others wait no longer than a second for its lock.
DO $$
DECLARE
    day date;
    part text;
    today timestamptz := date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
    low timestamptz;
    high timestamptz;
BEGIN
    IF NOT EXISTS (SELECT FROM workhorse.finished_jobs_other WHERE finished_at >= today) THEN
        RETURN;
    END IF;
    PERFORM set_config('lock_timeout', '1s', true);
    LOCK TABLE workhorse.finished_jobs_other IN ACCESS EXCLUSIVE MODE;
    FOR day IN SELECT DISTINCT (finished_at AT TIME ZONE 'UTC')::date
                 FROM workhorse.finished_jobs_other WHERE finished_at >= today
    LOOP
        part := 'finished_jobs_' || to_char(day, 'YYYYMMDD');
        low := day::timestamp AT TIME ZONE 'UTC';
        high := (day + 1)::timestamp AT TIME ZONE 'UTC';
        EXECUTE format('CREATE TABLE workhorse.%%I (LIKE workhorse.finished_jobs INCLUDING ALL)', part);
        EXECUTE format('WITH strays AS (DELETE FROM workhorse.finished_jobs_other'
                       ' WHERE finished_at >= %%L AND finished_at < %%L RETURNING *)'
                       ' INSERT INTO workhorse.%%I SELECT * FROM strays', low, high, part);
        EXECUTE format('ALTER TABLE workhorse.finished_jobs ATTACH PARTITION workhorse.%%I FOR VALUES FROM (%%L) TO (%%L)',
                       part, low, high);
    END LOOP;
END
$$

-- name: prepare_history
-- Make the history's partitions for the days to come.
SELECT workhorse.prepare_finished_jobs(%s)

-- name: drop_history
-- Drop the days of the history that are older than so many seconds.
SELECT workhorse.drop_finished_jobs(now() - make_interval(secs => %s))

-- name: purge_other_history
-- Forget a bounded number of old jobs that found no partition of their day.
DELETE FROM workhorse.finished_jobs_other
 WHERE ctid = ANY (ARRAY(SELECT ctid FROM workhorse.finished_jobs_other
                          WHERE finished_at < now() - make_interval(secs => %s) LIMIT 5000 FOR UPDATE SKIP LOCKED))
RETURNING 1

-- name: purge_uniques
-- Forget a bounded number of unique keys whose time is over.
DELETE FROM workhorse.job_uniques
 WHERE ctid = ANY (ARRAY(SELECT ctid FROM workhorse.job_uniques
                          WHERE until < now() LIMIT 5000 FOR UPDATE SKIP LOCKED))
RETURNING 1

-- name: purge_dead
-- Forget a bounded number of jobs that died so many seconds ago, with their steps. Their lanes go on at the next mending.
WITH gone AS (
    DELETE FROM workhorse.jobs
     WHERE ctid = ANY (ARRAY(SELECT ctid FROM workhorse.jobs
                              WHERE state = 'dead' AND run_at <= now() - make_interval(secs => %s)
                              LIMIT 1000 FOR UPDATE SKIP LOCKED))
    RETURNING id, enqueued_at, started_at, attempt, name, queue, key, origin, failures
), steps AS (
    DELETE FROM workhorse.job_steps s USING gone g WHERE s.job = g.id
)
INSERT INTO workhorse.finished_jobs (id, enqueued_at, started_at, finished_at, outcome, attempt, name, queue, key,
                                     origin, failures)
SELECT id, enqueued_at, started_at, clock_timestamp(), 'dead', attempt, name, queue, key, origin, failures FROM gone
RETURNING 1

-- name: mend_lanes
-- Let lanes go on that wait for nobody.
SELECT workhorse.mend_job_lanes(%s)

-- name: depths
-- Per queue and state, how many jobs there are (counted to a bound) and how many seconds the oldest has waited.
SELECT q.queue, s.state::text, n.jobs, n.age
  FROM unnest(%s::text[]) q (queue)
 CROSS JOIN unnest(ARRAY['ready', 'delayed', 'waiting', 'dead']::workhorse.job_state[]) s (state)
 CROSS JOIN LATERAL (
       SELECT count(*) AS jobs,
              coalesce(extract(epoch FROM clock_timestamp() - min(j.run_at)), 0)::float8 AS age
         FROM (SELECT run_at FROM workhorse.jobs WHERE queue = q.queue AND state = s.state LIMIT %s) j) n

-- name: cancel
-- End a job, or ask its worker to. The row is locked first: one that fails at this moment is seen as it is then, delayed
-- or dead, and not asked for what it would forget. No row: there is no such job.
WITH wanted AS MATERIALIZED (SELECT j.id FROM workhorse.jobs j WHERE j.id = %s FOR UPDATE)
SELECT workhorse.cancel_job(w.id) FROM wanted w

-- name: retry
-- Try a dead or delayed job again, now. A dead one has given its unique key up: it takes it back, or stays dead where
-- another has it. No row: there is no such job.
WITH wanted AS (
    SELECT j.id, j.unique_digest FROM workhorse.jobs j WHERE j.id = %s AND j.state IN ('dead', 'delayed') FOR UPDATE
), taken AS (
    INSERT INTO workhorse.job_uniques AS u (digest, job, until)
    SELECT w.unique_digest, w.id, 'infinity' FROM wanted w WHERE w.unique_digest IS NOT NULL
        ON CONFLICT (digest) DO UPDATE SET job = excluded.job, until = excluded.until
           WHERE u.job = excluded.job OR u.until <= clock_timestamp()
    RETURNING u.job
)
SELECT workhorse.retry_job(w.id, %s) FROM wanted w
 WHERE w.unique_digest IS NULL OR EXISTS (SELECT FROM taken)

-- name: list_live
-- Jobs that are not finished, the newest first.
SELECT id, name, queue, key, state::text, attempt, attempts_left, priority, enqueued_at, run_at, started_at, progress::text
  FROM workhorse.jobs
 WHERE (%s::text IS NULL OR state = %s::text::workhorse.job_state)
   AND (%s::text IS NULL OR queue = %s::text) AND (%s::text IS NULL OR name = %s::text)
 ORDER BY seq DESC LIMIT %s

-- name: show_live
-- One job that is not finished. Without its arguments.
SELECT j.id, j.name, j.queue, j.key, j.state::text, j.attempt, j.attempts_left, j.priority, j.enqueued_at, j.run_at,
       j.started_at, j.progress::text, j.origin::text, j.failures::text, w.name
  FROM workhorse.jobs j LEFT JOIN workhorse.job_workers w ON w.id = j.worker WHERE j.id = %s

-- name: show_finished
-- One job of the history. Its id tells when it was made, and so which partitions cannot have it.
SELECT id, name, queue, key, outcome::text, attempt, enqueued_at, started_at, finished_at, origin::text, failures::text
  FROM workhorse.finished_jobs WHERE id = %s AND finished_at >= to_timestamp(%s::float8) LIMIT 1

-- name: list_steps
-- The steps of a job that have been done, in order.
SELECT step, made_at FROM workhorse.job_steps WHERE job = %s ORDER BY made_at, step

-- name: workers
-- The workers, and how many seconds ago each was heard of.
SELECT name, queues, concurrency, running, sleeping, started_at,
       extract(epoch FROM clock_timestamp() - beat_at)::float8
  FROM workhorse.job_workers ORDER BY name, started_at

-- name: forget
-- Give back what a worker has and knows nothing of, because the answer to a turn was lost.
WITH given_back AS (
    UPDATE workhorse.jobs SET state = 'ready', worker = NULL, attempts_left = attempts_left + 1
     WHERE worker = %s AND state = 'running' AND id <> ALL (%s::uuid[])
    RETURNING 1
)
SELECT count(*)::int FROM given_back
