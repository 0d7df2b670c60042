"""Celery with its default pool of processes, on Valkey: messages are acknowledged before they run, as is its default.

Valkey keeps an append-only file here and syncs it each second: what it took within the last second can be lost with the
machine, where the engines on Postgres lose nothing.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from benchmarks.jobs.engine import Begin, Engine, Enqueuer, Servers

__all__ = ["make"]


class Producer:
    """One connection for a whole batch; each task is a message of its own."""

    def __init__(self, app: Any, task: Any) -> None:
        self._app = app
        self._task = task

    async def many(self, numbers: Sequence[int]) -> None:
        """A message each."""
        with self._app.producer_or_acquire() as producer:
            for number in numbers:
                self._task.apply_async((number,), producer=producer)

    async def one(self, number: int) -> None:
        """A message."""
        self._task.delay(number)


class Celery(Engine):
    """As many processes a worker as there are cores, its default."""

    def _app(self, begin: Begin) -> tuple[Any, Any]:
        app: Any = import_module("celery").Celery("benchmark", broker=broker_url(self.servers.cache))
        app.conf.broker_connection_retry_on_startup = True

        def nothing(number: int) -> None:
            begin(number)

        return app, app.task(name="nothing", ignore_result=True)(nothing)

    async def prepare(self) -> None:
        """Nothing: it has no tables."""

    @asynccontextmanager
    async def enqueuer(self) -> AsyncGenerator[Enqueuer]:
        """On its own connections."""
        app, task = self._app(lambda _: None)
        with app:
            yield Producer(app, task)

    def work(self, begin: Begin, gate: Callable[[], None]) -> None:
        """Be a worker."""
        app, _ = self._app(begin)

        def ready(**_: object) -> None:
            gate()

        import_module("celery.signals").worker_ready.connect(ready)
        app.worker_main(["worker", "--loglevel", "ERROR"])


def broker_url(cache: str) -> str:
    """The URL as Celery wants it: a socket has a scheme of its own."""
    return f"redis+socket://{cache.removeprefix('unix://')}" if cache.startswith("unix://") else cache


def make(servers: Servers) -> Engine:
    """The engine."""
    return Celery(servers)
