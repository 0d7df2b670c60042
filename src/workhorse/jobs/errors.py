"""What the jobs room raises.

WorkhorseError
└── JobError
    ├── NoJob        `current_job()` or `step()` was called where no job is being run
    ├── JobUnknown   no worker of its queue has known a job for weeks
    └── JobLate      a job took longer than its deadline; the attempt has failed
"""

from workhorse.errors import WorkhorseError

__all__ = ["JobError", "JobLate", "JobUnknown", "NoJob"]


class JobError(WorkhorseError):
    """Something is wrong with a job, for the operator's eyes."""


class NoJob(JobError):
    """`current_job()` or `step()` was called where no job is being run."""

    def __init__(self) -> None:
        super().__init__("no job is being run here: call this from a job's function, or from what it calls")


class JobUnknown(JobError):
    """No worker of its queue has known a job for weeks, or not its version."""

    def __init__(self, name: str, version: int) -> None:
        super().__init__(
            f"no worker knows the job {name!r} of version {version}: start one whose code does, and retry the job; or"
            " cancel it"
        )


class JobLate(JobError):
    """A job took longer than its deadline. Its transaction is rolled back, and the attempt has failed."""
