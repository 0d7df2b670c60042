"""What is counted of jobs. Names of jobs and queues are labels; keys and arguments never are."""

from collections.abc import Sequence
from typing import Any

from workhorse.telemetry.metrics import Registry

__all__ = ["COUNTED_TO", "Meters"]

COUNTED_TO = 10_000
"""Jobs of one queue and state are counted to this number: a look at a backlog must not become a load of its own."""

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)


class Meters:
    """The metrics of one worker. Without a registry they are counted nowhere."""

    def __init__(self, registry: Registry | None) -> None:
        registry = registry or Registry(None)
        self._ended = registry.counter("workhorse_jobs_ended_total", "Attempts that ended.", ("job", "outcome"))
        self._seconds = registry.histogram(
            "workhorse_job_seconds", "Time that an attempt took, in seconds.", ("job",), SECONDS
        )
        self._waited = registry.histogram(
            "workhorse_job_wait_seconds",
            "Time from when a job could have begun to its begin, in seconds.",
            ("queue",),
            SECONDS,
        )
        self._jobs = registry.gauge(
            "workhorse_jobs", f"Jobs that are not finished, counted to {COUNTED_TO}.", ("queue", "state")
        )
        self._age = registry.gauge(
            "workhorse_jobs_oldest_seconds", "How long the oldest of them has been due, in seconds.", ("queue", "state")
        )
        self._shown: set[tuple[str, str]] = set()

    def waited(self, queue: str, seconds: float) -> None:
        """A job began."""
        self._waited.labels(queue).observe(max(0.0, seconds))

    def ended(self, job: str, outcome: str, seconds: float) -> None:
        """An attempt ended."""
        self._ended.labels(job, outcome).add()
        self._seconds.labels(job).observe(seconds)

    def show(self, depths: Sequence[Sequence[Any]]) -> None:
        """How much there is to do. One worker of all shows it at a time: gauges are added up over processes."""
        self.hide()
        for queue, state, jobs, age in depths:
            self._shown.add((queue, state))
            self._jobs.labels(queue, state).set(jobs)
            self._age.labels(queue, state).set(max(0.0, age))

    def hide(self) -> None:
        """Another worker shows it."""
        for queue, state in self._shown:
            self._jobs.labels(queue, state).set(0)
            self._age.labels(queue, state).set(0)
        self._shown.clear()
