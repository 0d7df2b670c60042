"""A million rows leave a real server, whose memory does not grow with them; and one that is cut off is told of."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

import psycopg
import pytest

from workhorse.client import CutShort, stream_batches

APP = """
from contextlib import asynccontextmanager
from workhorse.analytics.tables import TableReply, Tables
from workhorse.state.postgres.frames import PostgresFrames
import os

tables = Tables()

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        frames = PostgresFrames(os.environ["TABLES_URL"])
        tables.bind(frames, database=None, max_rows=1_000_000)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await frames.close()
        await send({"type": "lifespan.shutdown.complete"})
        return
    rows = int(scope["path"].strip("/") or 1)
    query = "SELECT g AS n, repeat('x', 100) AS t, (g * 0.5)::numeric(12,2) AS d FROM generate_series(1, %s) g"
    await TableReply(tables.select(query, (rows,)))(scope, receive, send)
"""


@pytest.fixture
def server(database_url: str, tmp_path: Path) -> Iterator[tuple[str, int]]:
    """The URL of a server, and its process."""
    (tmp_path / "served.py").write_text(APP)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    source = Path(__file__).parents[3] / "src"
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "served:app", "--port", str(port), "--log-level", "critical"],
        cwd=tmp_path,
        env={**os.environ, "TABLES_URL": database_url, "PYTHONPATH": str(source)},
    )
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{url}/1", timeout=30).read()  # noqa: S310 - of this test
                break
            except (OSError, HTTPException):
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.1)
        yield url, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def peak_mb(pid: int) -> float:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


@pytest.mark.slow
@pytest.mark.parametrize(("format_", "most_mb"), [("arrow", 64), ("csv", 64), ("parquet", 128)])
def test_a_million_rows_do_not_grow_the_server(server: tuple[str, int], format_: str, most_mb: float) -> None:
    url, pid = server
    urllib.request.urlopen(f"{url}/50000?format={format_}", timeout=60).read()  # noqa: S310 - of this test
    before, size = peak_mb(pid), 0
    with urllib.request.urlopen(f"{url}/1000000?format={format_}", timeout=120) as reply:  # noqa: S310 - of this test
        while part := reply.read(1024 * 1024):
            size += len(part)
    # Parquet keeps the one text once.
    assert size > (100_000_000 if format_ != "parquet" else 1_000_000)
    assert peak_mb(pid) - before < most_mb


@pytest.mark.slow
def test_a_reply_that_is_cut_on_its_way_is_no_table(server: tuple[str, int], database_url: str) -> None:
    url, _ = server
    seen = 0

    def read() -> None:
        nonlocal seen
        with stream_batches(f"{url}/1000000", timeout_seconds=30) as (_, batches):
            for batch in batches:
                if not seen:
                    with psycopg.connect(database_url, autocommit=True) as connection:
                        connection.execute(
                            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                            " WHERE application_name = 'workhorse analytics' AND datname = current_database()"
                        )
                seen += batch.num_rows

    with pytest.raises((CutShort, HTTPException)):
        read()
    assert 0 < seen < 1_000_000
    with stream_batches(f"{url}/1000") as (_, batches):
        assert sum(batch.num_rows for batch in batches) == 1000
