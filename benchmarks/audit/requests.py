"""What an audited request costs over one that is not: wall time and the process's own CPU time, in one process.

    python -m benchmarks.audit.requests
    python -m benchmarks.audit.requests --rounds 40

A write inserts one row in a unit; a read does nothing; a refusal is a 403 of the handler's. Each is served by the whole
service (guard, unit, FastAPI) without a socket, on a real Postgres: without audit, with it, and with `fail_closed`. The
variants take turns within each round, so that what else the machine does meets all of them. The exit code is 1, and no
figure is printed, if a variant left another number of records than it should have.
"""

import argparse
import asyncio
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import psycopg
from fastapi import FastAPI, HTTPException

from benchmarks.guard.traffic import request_scope, serve_one
from benchmarks.processes import MeasurementError
from benchmarks.program import conduct
from workhorse import Audit, Migrations, Policy, Service, unit
from workhorse.embedded import attach, drop_database, fresh_database
from workhorse.settings import load_settings

if TYPE_CHECKING:
    from workhorse.asgi import Message, Scope

__all__ = ["main", "measure"]

FOLDER: Final = Path(__file__).parents[2] / ".workhorse"
WARM_UP: Final = 20
START_SECONDS: Final = 60.0
KINDS: Final = {"write": ("POST", 200), "read": ("GET", 200), "refusal": ("PUT", 403)}
AUDITS: Final = {"plain": None, "audited": Audit(), "closed": Audit(fail_closed=True)}


@dataclass(slots=True)
class Times:
    """Of one variant: a value per round, in microseconds a request."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def an_app() -> FastAPI:
    """One route of each kind for each way of auditing."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    async def write(id: str) -> None:  # noqa: A002
        await (await unit()).execute("INSERT INTO notes VALUES (%s)", (id,))

    async def read(id: str) -> str:  # noqa: A002
        return id

    async def refuse(id: str) -> None:  # noqa: A002
        raise HTTPException(403, id)

    for name in AUDITS:
        app.add_api_route(f"/{name}/{{id}}", write, methods=["POST"])
        app.add_api_route(f"/{name}/{{id}}", read, methods=["GET"])
        app.add_api_route(f"/{name}/{{id}}", refuse, methods=["PUT"])
    return app


def policies() -> list[Policy]:
    """One for each route."""
    return [
        Policy(f"{method} /{name}/{{id}}", audit=audit if audit is not None else False)
        for name, audit in AUDITS.items()
        for method, _ in KINDS.values()
    ]


async def measure(*, rounds: int, requests: int, folder: Path = FOLDER) -> str:
    """Time every variant, and return what is to be printed.

    Raises:
        MeasurementError: a request was answered otherwise than it should have been, or left another record.
    """
    with await asyncio.to_thread(attach, folder, cache=False) as attachment:
        url = fresh_database(attachment.database_url)
        try:
            times = await _timed(url, rounds=rounds, requests=requests)
            _check(url, WARM_UP + rounds * requests)
        finally:
            drop_database(url)
    return "\n".join(
        [
            f"{os.cpu_count()} cores, Python {platform.python_version()}; medians of {rounds} rounds of {requests}",
            "",
            f"{'':20}{'wall us':>10}{'x plain':>9}{'CPU us':>10}{'x plain':>9}",
            *(_line(kind, name, times) for kind in KINDS for name in AUDITS),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.audit.requests",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="a few requests: shows that it works, no more")
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args(arguments)
    if given.rounds < 1:
        parser.error("it takes a round at least")
    rounds, requests = (2, 10) if given.quick else (given.rounds, 100)
    return conduct(measure(rounds=rounds, requests=requests))


async def _timed(url: str, *, rounds: int, requests: int) -> dict[tuple[str, str], Times]:
    settings = load_settings(database={"url": url}, log={"access": False, "level": "error"})
    notes = Migrations.inline("notes", "CREATE TABLE notes (id text)")
    service = Service(an_app(), policies=policies(), migrations=[notes], settings=settings)
    incoming: asyncio.Queue[Message] = asyncio.Queue()
    outgoing: asyncio.Queue[Message] = asyncio.Queue()
    scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
    life = asyncio.ensure_future(service(scope, incoming.get, outgoing.put))
    await incoming.put({"type": "lifespan.startup"})
    started = await asyncio.wait_for(outgoing.get(), START_SECONDS)
    if started["type"] != "lifespan.startup.complete":
        raise MeasurementError(str(started))
    times = {(kind, name): Times() for kind in KINDS for name in AUDITS}
    try:
        for kind, name in times:
            await _serve(service, kind, name, WARM_UP)
        for _ in range(rounds):
            for (kind, name), taken in times.items():
                wall, cpu = time.perf_counter(), time.process_time()
                await _serve(service, kind, name, requests)
                taken.wall.append((time.perf_counter() - wall) * 1e6 / requests)
                taken.cpu.append((time.process_time() - cpu) * 1e6 / requests)
    finally:
        await incoming.put({"type": "lifespan.shutdown"})
        await asyncio.wait_for(life, START_SECONDS)
    return times


async def _serve(service: Service, kind: str, name: str, count: int) -> None:
    method, status = KINDS[kind]
    path = f"/{name}/7"
    for _ in range(count):
        scope = request_scope(method, path, [(b"host", b"127.0.0.1:8000")])
        answer = await serve_one(service, scope)
        if answer.status != status:
            raise MeasurementError(f"{method} {path}: {answer.status} {answer.body[:300]!r}")


def _check(url: str, count: int) -> None:
    """See that each audited request has left its record, and no other one."""
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT type, count(*) FROM workhorse.events GROUP BY type").fetchall()
    wanted = {"audit.write": 2 * count, "audit.read": 2 * count, "audit.denied": 2 * count}
    if dict(found) != wanted:
        raise MeasurementError(f"the journal has {dict(found)}, and should have {wanted}")


def _line(kind: str, name: str, times: dict[tuple[str, str], Times]) -> str:
    own, plain = times[kind, name], times[kind, "plain"]
    wall, cpu = median(own.wall), median(own.cpu)
    return (
        f"{kind + ' ' + name:20}{wall:>10.0f}{wall / median(plain.wall):>9.2f}"
        f"{cpu:>10.0f}{cpu / median(plain.cpu):>9.2f}"
    )


if __name__ == "__main__":
    sys.exit(main())
