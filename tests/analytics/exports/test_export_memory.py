"""An export of millions of rows takes no more memory than a smaller one."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import asyncio, re, sys
from pathlib import Path
import pyarrow as pa
from workhorse.analytics.exports import export_dataset
from workhorse.analytics.tables import Tables
from workhorse.state.objects import open_store
from workhorse.state.postgres.frames import PostgresFrames

def peak_mb():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

async def main(url, folder):
    source = PostgresFrames(url)
    tables = Tables(source)
    query = "SELECT g AS n, g / 400000 AS part, md5(g::text) AS t, (g * 0.5)::numeric(12,2) AS d"
    async def export(rows):
        selection = tables.select(query + " FROM generate_series(0, %s - 1) g", (rows,))
        return await export_dataset(selection, to=open_store(f"{folder}/{rows}"), partition_by=["part"])
    await export(800_000)  # after which each thread has its arenas
    before = peak_mb()
    report = await export(1_600_000)
    await source.close()
    print(report.rows, report.bytes, peak_mb() - before, pa.default_memory_pool().max_memory() / 2**20)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.slow
def test_an_export_does_not_grow_with_its_rows(database_url: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, database_url, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={"PYTHONPATH": str(Path(__file__).parents[3] / "src"), "PATH": ""},
    )
    rows, size, grown, most = done.stdout.split()
    assert int(rows) == 1_600_000
    assert int(size) > 20_000_000
    assert float(most) < 64, "of Arrow's buffers"
    assert float(grown) < 64, "of the process"
