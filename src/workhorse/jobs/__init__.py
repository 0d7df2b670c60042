"""Background jobs on Postgres: committed with the request that wants them, run with effects that stand exactly once."""

from workhorse.jobs.current import RunningJob, current_job
from workhorse.jobs.definition import Call, Enqueuer, Job, job
from workhorse.jobs.errors import JobError, JobLate, NoJob
from workhorse.jobs.options import CHANNEL, Notices, WorkerOptions
from workhorse.jobs.retries import ONCE, Retries
from workhorse.jobs.schedules import Schedule
from workhorse.jobs.steps import step
from workhorse.jobs.upkeep import History
from workhorse.jobs.worker import Worker

__all__ = [
    "CHANNEL",
    "ONCE",
    "Call",
    "Enqueuer",
    "History",
    "Job",
    "JobError",
    "JobLate",
    "NoJob",
    "Notices",
    "Retries",
    "RunningJob",
    "Schedule",
    "Worker",
    "WorkerOptions",
    "current_job",
    "job",
    "step",
]
