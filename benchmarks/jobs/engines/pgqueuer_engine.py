"""PgQueuer on asyncpg, with its durable tables (its default)."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from benchmarks.jobs.engine import AT_ONCE, Begin, Engine, Enqueuer, Servers

__all__ = ["make"]


class Queue:
    """Its queries."""

    def __init__(self, queries: Any) -> None:
        self._queries = queries

    async def many(self, numbers: Sequence[int]) -> None:
        """One statement."""
        payloads = [str(number).encode() for number in numbers]
        await self._queries.enqueue(["nothing"] * len(payloads), payloads, [0] * len(payloads))

    async def one(self, number: int) -> None:
        """One statement."""
        await self._queries.enqueue("nothing", str(number).encode())


class PgQueuer(Engine):
    """It takes jobs in batches, of ten by default; as many as the others run at once make it quicker."""

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[Any]:
        connection: Any = await import_module("asyncpg").connect(self.servers.database)
        try:
            yield connection
        finally:
            await connection.close()

    @asynccontextmanager
    async def _queries(self) -> AsyncGenerator[Any]:
        async with self._connection() as connection:
            driver = import_module("pgqueuer.db").AsyncpgDriver(connection)
            yield import_module("pgqueuer.queries").Queries(driver)

    async def prepare(self) -> None:
        """Install its schema."""
        async with self._queries() as queries:
            await queries.install()

    @asynccontextmanager
    async def enqueuer(self) -> AsyncGenerator[Enqueuer]:
        """On a connection."""
        async with self._queries() as queries:
            yield Queue(queries)

    def work(self, begin: Begin, gate: Callable[[], None]) -> None:
        """Be a worker."""

        async def main() -> None:
            async with self._connection() as connection:
                worker: Any = import_module("pgqueuer").PgQueuer.from_asyncpg_connection(connection)

                async def nothing(job: Any) -> None:
                    begin(int(job.payload))

                worker.entrypoint("nothing")(nothing)
                asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.shutdown.set)
                gate()
                await worker.run(batch_size=AT_ONCE)

        asyncio.run(main())


def make(servers: Servers) -> Engine:
    """The engine."""
    return PgQueuer(servers)
