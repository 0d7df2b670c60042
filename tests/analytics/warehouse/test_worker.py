"""`workhorse worker` copies to the warehouse and counts the measures of a service, as an operator starts it."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.analytics.measures.kit import REVENUE, post
from tests.analytics.warehouse.kit import KEPT, TRANSFERS, embedded, told
from tests.units.databases import open_database
from workhorse.analytics.warehouse import Warehouse
from workhorse.migrations import WORKHORSE
from workhorse.state.postgres.migrate import apply_migrations
from workhorse.state.warehouses.opening import open_engine

SERVICE = """
from fastapi import FastAPI
from tests.analytics.warehouse.kit import KEPT, MEASURES, REVENUE, TRANSFERS
from workhorse import Service
from workhorse.analytics.warehouse import Warehouse

service = Service(FastAPI(), feeds=MEASURES.feeds, warehouse=Warehouse([TRANSFERS], measures=[REVENUE, KEPT]))
"""
CHANGED = """
from dataclasses import replace
from fastapi import FastAPI
from tests.analytics.measures.kit import REVENUE
from workhorse import Service
from workhorse.analytics.measures import Measures

service = Service(FastAPI(), feeds=Measures([replace(REVENUE, sum="fee")]).feeds)
"""
ROOT = Path(__file__).parents[3]
SECONDS = 60.0
"""A deadline for what takes about two."""


@contextmanager
def worker(folder: Path, url: str, *, engine: str | None = None) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """A worker of `shop.py`, and its log."""
    named: Mapping[str, str] = {} if engine is None else {"WORKHORSE_ANALYTICS__WAREHOUSE_URL": engine}
    log = folder / "log"
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "workhorse.cli", "worker", "shop:service"],
            cwd=folder,
            env={
                **os.environ,
                **named,
                "DATABASE_URL": url,
                "PYTHONPATH": str(ROOT),
                "WORKHORSE_CACHE__STORE": "database",
                "WORKHORSE_LOG__FORMAT": "json",
            },
            stdout=stream,
            stderr=stream,
        )
    try:
        yield process, log
    finally:
        process.kill()
        process.wait(10)


def wait_for(url: str, events: int, copied: int, log: Path) -> None:
    """Until the feed of the measure has been given so many events, and that of the copies so many."""
    give_up = time.monotonic() + SECONDS
    query = b"SELECT name LIKE 'measure.%' AS own, min(events), max(events) FROM workhorse.feeds GROUP BY 1 ORDER BY 1"
    with psycopg.connect(url, autocommit=True) as connection:
        while connection.execute(query).fetchall() != [(False, copied, copied), (True, events, events)]:
            assert time.monotonic() < give_up, log.read_text()
            time.sleep(0.1)


@pytest.mark.slow
def test_a_worker_copies_and_counts_goes_on_where_it_was_stopped_and_ends_when_told(
    database_url: str, engine_url: str, tmp_path: Path
) -> None:
    async def write(*amounts: str) -> None:
        await apply_migrations(database_url, [WORKHORSE])
        async with open_database("pool", database_url) as database:
            await post(database, *amounts)

    async def compare() -> None:
        engine = open_engine(engine_url, statement_timeout_seconds=30)
        try:
            async with open_database("pool", database_url) as database:
                warehouse = Warehouse([TRANSFERS], measures=[REVENUE, KEPT], engine=engine)
                there = await warehouse.read("revenue", window="1 day")
                assert told(there) == told(await embedded(database, window="1 day"))
                assert sum(row.events for row in there) == 3
        finally:
            await engine.close()

    (tmp_path / "shop.py").write_text(SERVICE)
    asyncio.run(write("0.10", "0.20"))
    with worker(tmp_path, database_url, engine=engine_url) as (process, log):
        wait_for(database_url, 2, 2, log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0, log.read_text()
    asyncio.run(write("7.00"))
    with worker(tmp_path, database_url, engine=engine_url) as (process, log):
        wait_for(database_url, 3, 3, log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0, log.read_text()
    asyncio.run(compare())
    assert "error" not in log.read_text()


@pytest.mark.slow
def test_a_worker_whose_measure_has_changed_under_its_version_does_not_start(database_url: str, tmp_path: Path) -> None:
    async def write() -> None:
        await apply_migrations(database_url, [WORKHORSE])
        async with open_database("pool", database_url) as database:
            await post(database, "0.10")

    (tmp_path / "shop.py").write_text(SERVICE)
    asyncio.run(write())
    duckdb = f"duckdb:{tmp_path}/there.duckdb"
    with worker(tmp_path, database_url, engine=duckdb) as (_, log):
        wait_for(database_url, 1, 1, log)
    (tmp_path / "shop.py").write_text(CHANGED)
    with worker(tmp_path, database_url) as (process, log):
        assert process.wait(SECONDS) == 1
    assert "the measure 'revenue' has changed under version 1" in log.read_text()
    assert "sum was 'amount' and is 'fee'" in log.read_text()
