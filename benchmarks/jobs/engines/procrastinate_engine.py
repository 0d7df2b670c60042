"""procrastinate on psycopg. Finished jobs stay in its table, as is its default."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from benchmarks.jobs.engine import AT_ONCE, Begin, Engine, Enqueuer, Servers

__all__ = ["make"]


class Tasks:
    """The task's own ways to be enqueued."""

    def __init__(self, task: Any) -> None:
        self._task = task

    async def many(self, numbers: Sequence[int]) -> None:
        """One statement."""
        await self._task.batch_defer_async(*({"number": number} for number in numbers))

    async def one(self, number: int) -> None:
        """One statement."""
        await self._task.defer_async(number=number)


class Procrastinate(Engine):
    """Its default concurrency is one job; it is given the others'."""

    def _app(self, begin: Begin) -> tuple[Any, Any]:
        library: Any = import_module("procrastinate")
        connector = library.PsycopgConnector(conninfo=self.servers.database, min_size=4, max_size=10)
        app = library.App(connector=connector)

        async def nothing(number: int) -> None:
            begin(number)

        return app, app.task(name="nothing")(nothing)

    async def prepare(self) -> None:
        """Apply its schema."""
        app, _ = self._app(lambda _: None)
        async with app.open_async():
            await app.schema_manager.apply_schema_async()

    @asynccontextmanager
    async def enqueuer(self) -> AsyncGenerator[Enqueuer]:
        """On its pool."""
        app, task = self._app(lambda _: None)
        async with app.open_async():
            yield Tasks(task)

    def work(self, begin: Begin, gate: Callable[[], None]) -> None:
        """Be a worker."""
        app, _ = self._app(begin)

        async def main() -> None:
            async with app.open_async():
                gate()
                await app.run_worker_async(concurrency=AT_ONCE)

        asyncio.run(main())


def make(servers: Servers) -> Engine:
    """The engine."""
    return Procrastinate(servers)
