-- name: enqueue
-- Write a JSON array of jobs, in order. Travels with COMMIT.
SELECT workhorse.enqueue_jobs(%s, %s, %s)

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
SELECT workhorse.complete_job(%s, %s, %s, %s)

-- name: fail
-- End a failed attempt.
SELECT workhorse.fail_job(%s, %s, %s, %s, %s)

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
SELECT workhorse.keep_job_step(%s, %s, %s, %s, %s)

-- name: begin_schedule
-- Know a schedule from now on; returns seconds since 1970 of the latest tick that was dealt with.
INSERT INTO workhorse.job_schedules AS s (name, tick_at) VALUES (%s, now())
    ON CONFLICT (name) DO UPDATE SET name = s.name
RETURNING extract(epoch FROM tick_at)::float8, extract(epoch FROM now())::float8

-- name: tick
-- Deal with one tick of a schedule, once in the cluster.
SELECT workhorse.tick_job_schedule(%s, to_timestamp(%s::float8), %s, %s, %s)

-- name: begin_chore
-- Whether a chore is this worker's to do: nobody has done it for so many seconds.
INSERT INTO workhorse.job_chores AS c (name, done_at) VALUES (%s, clock_timestamp())
    ON CONFLICT (name) DO UPDATE SET done_at = excluded.done_at
       WHERE c.done_at < clock_timestamp() - make_interval(secs => %s)
RETURNING true

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
-- End a job, or ask its worker to.
SELECT workhorse.cancel_job(%s)

-- name: retry
-- Try a dead or delayed job again, now.
SELECT workhorse.retry_job(%s, %s)

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
