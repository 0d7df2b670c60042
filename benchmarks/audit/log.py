"""What the audit log costs: sealing on one core, verifying offline, and proofs in logs of up to 100 million entries.

Sealing and verifying are done for real, on a journal of this run's own. The trees of the proofs are simulated: all of
their leaves are one entry, so each full subtree of a height has one hash, and a log of any size is a table of hashes.
Its root and its proofs are true ones, which the verifier accepts.
"""

import asyncio
import random
import secrets
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from benchmarks.processes import MeasurementError
from workhorse.audit import new_signer, verify
from workhorse.audit.checkpoints import Trust
from workhorse.audit.export import FolderExport
from workhorse.audit.tree import check_inclusion, leaf_hash, node_hash, prove_inclusion, range_hash
from workhorse.sealer.keys import KeyText
from workhorse.sealer.reading import LogReader
from workhorse.sealer.seal import Sealer, SealerOptions
from workhorse.state.postgres.database import PostgresDatabase

__all__ = ["SIZES", "LogTimes", "ProofTimes", "time_log", "time_proofs"]

ORIGIN: Final = "benchmark.example/audit"
SIZES: Final = (1_000_000, 10_000_000, 100_000_000)
PROOFS: Final = 300
HASH_BYTES: Final = 32
TURNS_A_SECOND: Final = 10
LOOK_SECONDS: Final = 0.02
LAG_SECONDS: Final = 60.0
# As wide as an event of the bank's.
FILL: Final = """
INSERT INTO workhorse.events (id, occurred_at, type, subject, data)
SELECT gen_random_uuid(), now(), 'transfer.posted', 'account:' || n,
       jsonb_build_object('amount', n, 'currency', 'EUR', 'debtor', n, 'creditor', n + 1, 'reference', md5(n::text))
  FROM generate_series(1, %s) AS n
"""


@dataclass(frozen=True, slots=True)
class LogTimes:
    """Of a real log."""

    events: int
    seal_seconds: float
    seal_cpu_seconds: float
    """Of this process; the database's comes on top, on the other core where there is one."""
    verify_seconds: float
    lags: list[float]
    """Seconds from a commit to the checkpoint that covers it, at a steady rate of events; ascending."""


@dataclass(frozen=True, slots=True)
class ProofTimes:
    """Of proofs that one entry is in a log."""

    size: int
    hashes: float
    prove_us: float
    check_us: float

    @property
    def bytes(self) -> float:
        """Of its hashes."""
        return self.hashes * HASH_BYTES


async def time_log(url: str, *, events: int, rate: int, seconds: float) -> LogTimes:
    """Seal a journal of so many events in a migrated database, export it and verify the export; then let it grow.

    Args:
        url: the database.
        events: are sealed as fast as it goes.
        rate: of events a second that are committed while the sealer runs.
        seconds: for so long.

    Raises:
        MeasurementError: not all of them were sealed, or the verifier found a fault.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(FILL, (events,))
    signer = new_signer(ORIGIN, random=secrets.token_bytes)
    database = PostgresDatabase(url, pool_max=2)
    await database.open()
    try:
        sealer = Sealer(database, SealerOptions(origin=ORIGIN), KeyText(signer))
        wall, cpu = time.perf_counter(), time.process_time()
        sealed = await sealer.drain()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        if sealed < events:
            raise MeasurementError(f"{sealed} of {events} events were sealed")
        with tempfile.TemporaryDirectory() as folder:
            await LogReader(database).export(Path(folder) / "export", with_events=True)
            began = time.perf_counter()
            trust = Trust(origin=ORIGIN, logs=(signer.verifier,))
            report = await asyncio.to_thread(verify, FolderExport(Path(folder) / "export"), trust)
            took = time.perf_counter() - began
        if not report.ok:
            raise MeasurementError(f"the log that was just sealed does not verify: {report}")
        lags = await _lags(sealer, url, rate=rate, seconds=seconds)
    finally:
        await database.close()
    return LogTimes(sealed, wall, cpu, took, lags)


async def _lags(sealer: Sealer, url: str, *, rate: int, seconds: float) -> list[float]:
    """How long after its commit each of ten transactions a second is covered by a signed checkpoint."""
    size = "SELECT max(size) FROM workhorse.audit_checkpoints"
    waiting: deque[tuple[int, float]] = deque()
    lags: list[float] = []
    running = asyncio.ensure_future(sealer.run())
    try:
        async with (
            await psycopg.AsyncConnection.connect(url, autocommit=True) as writer,
            await psycopg.AsyncConnection.connect(url, autocommit=True) as reader,
            asyncio.timeout(seconds + LAG_SECONDS),
        ):

            async def signed() -> int:
                row = await (await reader.execute(size.encode())).fetchone()
                return int(row[0]) if row is not None else 0

            async def look() -> None:
                covered = await signed()
                while waiting and waiting[0][0] <= covered:
                    lags.append(time.perf_counter() - waiting.popleft()[1])
                await asyncio.sleep(LOOK_SECONDS)

            total, began = await signed(), time.perf_counter()
            for turn in range(1, round(seconds * TURNS_A_SECOND) + 1):
                await writer.execute(FILL, (rate // TURNS_A_SECOND,))
                total += rate // TURNS_A_SECOND
                waiting.append((total, time.perf_counter()))
                while time.perf_counter() < began + turn / TURNS_A_SECOND:
                    await look()
            while waiting:
                await look()
    except TimeoutError as error:
        raise MeasurementError(f"{len(waiting)} transactions were not sealed in {LAG_SECONDS:.0f} s") from error
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    return sorted(lags)


class Uniform:
    """A tree of any size whose leaves are all the same."""

    def __init__(self, leaf: bytes, levels: int = 28) -> None:
        self._hashes = [leaf]
        for _ in range(levels):
            self._hashes.append(node_hash(self._hashes[-1], self._hashes[-1]))

    def node(self, level: int, index: int, /) -> bytes:  # noqa: ARG002 - each is the same
        """The hash of a full subtree."""
        return self._hashes[level]


def time_proofs(sizes: Sequence[int] = SIZES, *, proofs: int = PROOFS) -> list[ProofTimes]:
    """Make and check proofs at random places of logs of these sizes.

    Raises:
        MeasurementError: a proof was refused. It is the verifier's exception's cause.
    """
    leaf = leaf_hash(b"an entry of the benchmark")
    nodes = Uniform(leaf)
    found: list[ProofTimes] = []
    chance = random.Random(1)
    for size in sizes:
        root = range_hash(nodes, 0, size)
        places = [chance.randrange(size) for _ in range(proofs)]
        began = time.perf_counter()
        made = [prove_inclusion(nodes, place, size) for place in places]
        prove = time.perf_counter() - began
        began = time.perf_counter()
        for place, proof in zip(places, made, strict=True):
            check_inclusion(leaf=leaf, index=place, size=size, root=root, proof=proof)
        check = time.perf_counter() - began
        hashes = sum(len(proof) for proof in made) / proofs
        found.append(ProofTimes(size, hashes, prove * 1e6 / proofs, check * 1e6 / proofs))
    return found
