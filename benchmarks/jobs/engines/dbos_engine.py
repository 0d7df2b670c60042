"""DBOS: each job is a workflow on a queue that is kept in its system database.

Several processes of one application need a name each (`executor_id`), as its pages say. Its batches are enqueued in one
transaction of the caller's.
"""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from benchmarks.jobs.engine import Begin, Engine, Enqueuer, Servers

__all__ = ["make"]

QUEUE: Final = "benchmark"
OPTIONS: Final = {"queue_name": QUEUE, "workflow_name": "nothing"}


class Client:
    """Its client, which is sync: nothing else runs in this process."""

    def __init__(self, client: Any, engine: Any) -> None:
        self._client = client
        self._engine = engine

    async def many(self, numbers: Sequence[int]) -> None:
        """One transaction."""
        with self._engine.begin() as connection:
            for number in numbers:
                self._client.enqueue_in_transaction(connection, OPTIONS, number)

    async def one(self, number: int) -> None:
        """One transaction."""
        self._client.enqueue(OPTIONS, number)


class Dbos(Engine):
    """With the default queue: no bound on what runs at once, and a look each second."""

    def _launch(self, begin: Begin) -> Any:
        library: Any = import_module("dbos")
        library.DBOS(
            config={
                "name": "benchmark",
                "system_database_url": self.servers.database,
                "application_version": "1",
                "executor_id": f"worker-{os.getpid()}",
                "log_level": "ERROR",
                "run_admin_server": False,
            }
        )

        async def nothing(number: int) -> None:
            begin(number)

        library.DBOS.workflow(name="nothing")(nothing)
        library.DBOS.launch()
        return library.DBOS

    async def prepare(self) -> None:
        """Have it make its tables and the queue."""
        await asyncio.to_thread(self._make)

    def _make(self) -> None:
        dbos = self._launch(lambda _: None)
        dbos.register_queue(QUEUE)
        dbos.destroy()

    @asynccontextmanager
    async def enqueuer(self) -> AsyncGenerator[Enqueuer]:
        """Without a worker in the process."""
        client: Any = import_module("dbos").DBOSClient(system_database_url=self.servers.database)
        engine: Any = import_module("sqlalchemy").create_engine(in_psycopg(self.servers.database))
        try:
            yield Client(client, engine)
        finally:
            engine.dispose()
            client.destroy()

    def work(self, begin: Begin, gate: Callable[[], None]) -> None:
        """Be a worker."""
        stopping = threading.Event()

        def stop(*_: object) -> None:
            stopping.set()

        signal.signal(signal.SIGTERM, stop)
        gate()
        dbos = self._launch(begin)
        stopping.wait()
        dbos.destroy()


def in_psycopg(url: str) -> str:
    """The URL as SQLAlchemy wants it, with the driver in its scheme."""
    return urlunsplit(urlsplit(url)._replace(scheme="postgresql+psycopg"))


def make(servers: Servers) -> Engine:
    """The engine."""
    return Dbos(servers)
