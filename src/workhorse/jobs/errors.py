"""What the jobs room raises.

WorkhorseError
└── JobError
    ├── NoJob        `current_job()` or `step()` was called where no job is being run
    └── JobLate      a job took longer than its deadline; the attempt has failed
"""

from workhorse.errors import WorkhorseError

__all__ = ["JobError", "JobLate", "NoJob"]


class JobError(WorkhorseError):
    """Something is wrong with a job, for the operator's eyes."""


class NoJob(JobError):
    """`current_job()` or `step()` was called where no job is being run."""

    def __init__(self) -> None:
        super().__init__("no job is being run here: call this from a job's function, or from what it calls")


class JobLate(JobError):
    """A job took longer than its deadline. Its transaction is rolled back, and the attempt has failed."""
