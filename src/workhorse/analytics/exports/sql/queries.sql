-- name: standing
-- How far a job is: its state while it is not finished, else how it ended. No row: there is none, or not any more.
SELECT state::text FROM workhorse.jobs WHERE id = %s
UNION ALL
SELECT outcome::text FROM workhorse.finished_jobs WHERE id = %s
LIMIT 1
