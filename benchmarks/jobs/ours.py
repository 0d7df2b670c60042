"""What the jobs engine does on this machine: enqueue, drain by one and by two workers, wake-up, and idle.

    python -m benchmarks.jobs.ours [JOBS]

Workers are processes of their own; history, fences and fsync are on. The jobs do nothing, so the engine is measured,
and `effects` write one row each in their own transaction, so the promise is.
"""

import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psycopg

from workhorse.embedded import attach, fresh_database
from workhorse.jobs import Worker, WorkerOptions, job
from workhorse.migrations import WORKHORSE, Migrations
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.state.postgres.migrate import apply_migrations
from workhorse.state.postgres.notices import PostgresNotices
from workhorse.units import Unit, unit

ROOT = Path(__file__).parents[2]
TABLES = Migrations.inline("jobs-benchmark", "CREATE TABLE effects (id int, at timestamptz DEFAULT clock_timestamp())")
WAKE_UPS = 100
IDLE_SECONDS = 20
UNIT_SECONDS = 4
LANES = 8


@job()
async def nothing(number: int) -> None:
    """The engine alone."""


@job()
async def effect(number: int) -> None:
    """One row, in one transaction with the job's end."""
    await (await unit()).execute("INSERT INTO effects (id) VALUES (%s)", (number,))


@asynccontextmanager
async def opened(url: str, pool_max: int) -> AsyncGenerator[PostgresDatabase]:
    database = PostgresDatabase(url, pool_max=pool_max)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


async def work(url: str, concurrency: int) -> None:
    """What a worker process does."""
    async with opened(url, 8) as database, opened(url, 3) as control:
        worker = Worker(
            database,
            [nothing, effect],
            control=control,
            notices=PostgresNotices(url, "workhorse_jobs"),
            options=WorkerOptions(concurrency=concurrency),
        )
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
        await worker.run()


@contextmanager
def workers(url: str, count: int, concurrency: int) -> Generator[None]:
    """So many worker processes during the block."""
    command = [sys.executable, "-m", "benchmarks.jobs.ours", "--worker", url, str(concurrency)]
    running = [subprocess.Popen(command, cwd=ROOT, env=os.environ) for _ in range(count)]
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            while ask(connection, "SELECT count(*) FROM workhorse.job_workers") < count:
                time.sleep(0.02)
            yield
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(30)


def ask(connection: psycopg.Connection[tuple[float, ...]], statement: str) -> float:
    row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return float(row[0])


async def enqueue(url: str, count: int, which: str) -> float:
    """Enqueue so many jobs, and return the rate."""
    kind = {"nothing": nothing, "effect": effect}[which]
    calls = [kind.call(number) for number in range(count)]
    async with opened(url, 2) as database:
        began = time.perf_counter()
        await kind.enqueue_many_alone(database, calls)
        return count / (time.perf_counter() - began)


def drain(url: str, count: int, how_many: int, which: str, concurrency: int) -> tuple[float, float]:
    """Enqueue, then let workers work; return jobs a second of both. The drain is timed by the history."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("TRUNCATE workhorse.finished_jobs")
        rate = asyncio.run(enqueue(url, count, which))
        connection.execute("VACUUM ANALYZE workhorse.jobs")
        with workers(url, how_many, concurrency):
            while ask(connection, "SELECT count(*) FROM workhorse.jobs") > 0:
                time.sleep(0.1)
        seconds = "SELECT extract(epoch FROM max(finished_at) - min(started_at)) FROM workhorse.finished_jobs"
        return rate, count / ask(connection, seconds)


async def wake_up(url: str) -> list[float]:
    """From commit to start in milliseconds, of jobs that come one by one."""
    committed: list[float] = []
    async with opened(url, 2) as database:
        for number in range(WAKE_UPS):
            async with Unit(database):
                await effect.enqueue(-number)
            committed.append(time.time())
            await asyncio.sleep(0.05)
    await asyncio.sleep(1)
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT extract(epoch FROM started_at)::float8 FROM workhorse.finished_jobs ORDER BY id"
        )
        return [(started - at) * 1000 for (started,), at in zip(rows, committed, strict=True)]


async def units(url: str) -> float:
    """Units a second that enqueue one job each, on eight connections: what NOTIFY would hold up."""
    done = 0
    async with opened(url, LANES) as database:
        stop = time.monotonic() + UNIT_SECONDS

        async def lane() -> None:
            nonlocal done
            while time.monotonic() < stop:
                async with Unit(database):
                    await nothing.enqueue(done)
                done += 1

        await asyncio.gather(*(lane() for _ in range(LANES)))
    return done / UNIT_SECONDS


def notices(url: str, connection: psycopg.Connection[tuple[float, ...]]) -> None:
    """What it costs who enqueues to call a sleeper, and that a worker which is busy need not be called."""
    sleeper = (
        "INSERT INTO workhorse.job_workers (id, name, queues, concurrency, sleeping) VALUES (gen_random_uuid(), 'x', "
    )
    nobody = asyncio.run(units(url))
    connection.execute((sleeper + "'{default}', 1, true)").encode())
    called = asyncio.run(units(url))
    connection.execute("DELETE FROM workhorse.job_workers")
    connection.execute("DELETE FROM workhorse.jobs")
    with workers(url, 1, 200):
        served = asyncio.run(units(url))
        while ask(connection, "SELECT count(*) FROM workhorse.jobs") > 0:
            time.sleep(0.1)
    print(f"units with a job: {nobody:,.0f}/s with no worker; {called:,.0f}/s calling one each time;", end=" ")
    print(f"{served:,.0f}/s with a worker that does them", flush=True)


def transactions(connection: psycopg.Connection[tuple[float, ...]]) -> float:
    return ask(
        connection,
        "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()",
    )


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    concurrency = int(os.environ.get("CONCURRENCY", "200"))
    with tempfile.TemporaryDirectory() as folder, attach(Path(folder), cache=False, linger_seconds=0) as servers:
        url = fresh_database(servers.database_url)
        asyncio.run(apply_migrations(url, [WORKHORSE, TABLES]))
        with psycopg.connect(url, autocommit=True) as connection:
            notices(url, connection)
            connection.execute("TRUNCATE workhorse.finished_jobs")
        # First, while there is nothing for the server's own housekeeping to do, which has transactions too.
        with psycopg.connect(url, autocommit=True) as connection, workers(url, 1, concurrency):
            time.sleep(1)
            delays = sorted(asyncio.run(wake_up(url)))
            print(f"commit to start: p50 {statistics.median(delays):.2f} ms, p95 {delays[94]:.2f} ms", flush=True)
            time.sleep(3)
            before, began = transactions(connection), time.monotonic()
            time.sleep(IDLE_SECONDS)
            idle = (transactions(connection) - before) / (time.monotonic() - began)
            print(f"idle: {idle:.2f} transactions a second, this probe's included")
        # No more jobs with a transaction at once than make sense of the pool's eight connections.
        for which, how_many, at_once in (("nothing", 1, concurrency), ("nothing", 2, concurrency), ("effect", 2, 16)):
            enqueued, drained = drain(url, count if which == "nothing" else count // 4, how_many, which, at_once)
            print(
                f"{which}: enqueue {enqueued:,.0f} a second; drain by {how_many}: {drained:,.0f} a second", flush=True
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        asyncio.run(work(sys.argv[2], int(sys.argv[3])))
    else:
        main()
