"""What is timed: the same transfer, served in different ways. Every server has one worker unless told otherwise."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from benchmarks.bank.databases import BANK_FOLDER, BENCHMARKS, DRIVER, in_driver
from benchmarks.bank.issuer import AUDIENCE

__all__ = [
    "BANK",
    "DJANGO",
    "FASTIFY",
    "FASTIFY_FOLDER",
    "FUNCTION",
    "ONE_BY_ONE",
    "PSYCOPG",
    "SERVED",
    "SQLALCHEMY",
    "SQLALCHEMY_UVICORN",
    "STATEMENTS",
    "THROUGH_FASTAPI",
    "YARDSTICKS",
    "Ledger",
    "Line",
    "Served",
    "Servers",
    "Yardstick",
    "lines_of",
]

Ledger = Literal["bank", "plain"]
"""Whose tables: the bank's own, or those of the SQLAlchemy peer."""

BIN: Final = Path(sys.executable).parent
GRANIAN: Final = (
    *(BIN / "granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}"),
    *("--workers", "{workers}", "--no-access-log", "--log-level", "warning"),
)
GRANIAN_THREADS: Final = (
    *(BIN / "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", "{port}", "--blocking-threads", "16"),
    *("--workers", "{workers}", "--no-access-log", "--log-level", "warning"),
)
UVICORN: Final = (
    *(BIN / "uvicorn", "--host", "127.0.0.1", "--port", "{port}"),
    *("--workers", "{workers}", "--no-access-log", "--log-level", "warning"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """What a variant is pointed to."""

    database: str
    cache: str
    issuer: str
    """Of the callers' tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A variant behind HTTP."""

    name: str
    title: str
    """What the table calls it."""
    ledger: Ledger
    command: tuple[str | Path, ...]
    """`{port}` and `{workers}` stand for what they are."""
    folder: Path
    ready: str
    """The path that is answered with 200 once it serves."""
    driver: str = ""
    """SQLAlchemy's driver, as its URLs name it."""
    tells: bool = False
    """Whether each transfer leaves an event, an advice or the job for it, and a kept reply."""
    needs: str = ""
    """The program that it cannot do without; where it is missing, the variant is not run."""
    settings: tuple[tuple[str, str], ...] = ()
    """Its own variables, in which `{cache}` and `{issuer}` stand for what they are."""

    def command_for(self, workers: int) -> tuple[str, ...]:
        """The command line for a number of workers."""
        return tuple(str(part).replace("{workers}", str(workers)) for part in self.command)

    def environment_for(self, servers: Servers) -> Mapping[str, str]:
        """The variables for these servers."""
        url = in_driver(servers.database, self.driver) if self.driver else servers.database
        filled = {
            name: value.replace("{cache}", servers.cache).replace("{issuer}", servers.issuer)
            for name, value in self.settings
        }
        return {"DATABASE_URL": url, **filled}


def workhorse_run(target: str) -> tuple[str | Path, ...]:
    """The command line that serves a service."""
    return (BIN / "workhorse", "run", target, "--host", "127.0.0.1", "--port", "{port}", "--workers", "{workers}")


# As it would run with real money: production's rules, tokens, rates counted in a cache, access lines, metrics, and no
# default turned off.
PRODUCTION: Final = (
    ("WORKHORSE_ENVIRONMENT", "production"),
    ("WORKHORSE_GUARD__ALLOWED_HOSTS", "127.0.0.1"),
    ("WORKHORSE_IDENTITY__ISSUERS", "{issuer}"),
    ("WORKHORSE_IDENTITY__AUDIENCE", AUDIENCE),
    ("CACHE_URL", "{cache}"),
)
FASTIFY_FOLDER: Final = BENCHMARKS / ".venv" / "fastify"
"""Where its packages are installed, and a copy of it."""

BANK: Final = Served(
    name="bank",
    title="Workhorse: batched, fast, all on",
    ledger="bank",
    command=workhorse_run("bank.app:service"),
    folder=BANK_FOLDER,
    ready="/-/ready",
    settings=PRODUCTION,
    tells=True,
)
THROUGH_FASTAPI: Final = Served(
    name="through-fastapi",
    title="Workhorse: batched, through FastAPI",
    ledger="bank",
    command=workhorse_run("benchmarks.bank.shapes:through_fastapi"),
    folder=BANK_FOLDER,
    ready="/-/ready",
    settings=PRODUCTION,
    tells=True,
)
ONE_BY_ONE: Final = Served(
    name="one-by-one",
    title="Workhorse: not batched, fast",
    ledger="bank",
    command=workhorse_run("benchmarks.bank.shapes:one_by_one"),
    folder=BANK_FOLDER,
    ready="/-/ready",
    settings=PRODUCTION,
    tells=True,
)
PSYCOPG: Final = Served(
    name="psycopg",
    title="FastAPI + psycopg, one call",
    ledger="bank",
    command=(*GRANIAN, "peers.psycopg_bank:app"),
    folder=BENCHMARKS,
    ready="/openapi.json",
)
SQLALCHEMY: Final = Served(
    name="sqlalchemy",
    title="FastAPI + SQLAlchemy, granian",
    ledger="plain",
    command=(*GRANIAN, "peers.sqlalchemy_bank:app"),
    folder=BENCHMARKS,
    ready="/openapi.json",
    driver=DRIVER,
)
SQLALCHEMY_UVICORN: Final = Served(
    name="sqlalchemy-uvicorn",
    title="FastAPI + SQLAlchemy, uvicorn",
    ledger="plain",
    command=(*UVICORN, "peers.sqlalchemy_bank:app"),
    folder=BENCHMARKS,
    ready="/openapi.json",
    driver=DRIVER,
)
DJANGO: Final = Served(
    name="django",
    title="Django + DRF, granian",
    ledger="plain",
    command=(*GRANIAN_THREADS, "peers.django_bank:app"),
    folder=BENCHMARKS,
    ready="/ready",
)
FASTIFY: Final = Served(
    name="fastify",
    title="Fastify + pg, node",
    ledger="plain",
    command=("node", "bank.mjs", "{port}"),
    folder=FASTIFY_FOLDER,
    ready="/ready",
    needs="node",
)
SERVED: Final = (BANK, THROUGH_FASTAPI, ONE_BY_ONE, PSYCOPG, FASTIFY, SQLALCHEMY, SQLALCHEMY_UVICORN, DJANGO)


@dataclass(frozen=True, slots=True, kw_only=True)
class Yardstick:
    """pgbench: what the database can do without HTTP, from 8 clients."""

    name: str
    title: str
    ledger: Ledger


FUNCTION: Final = Yardstick(name="pgbench", title="pgbench: the bank's function", ledger="bank")
STATEMENTS: Final = Yardstick(name="pgbench-statements", title="pgbench: seven statements", ledger="plain")
YARDSTICKS: Final = (FUNCTION, STATEMENTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the table: a variant under one load."""

    variant: Served | Yardstick
    connections: int
    hot: bool = False
    """Whether one account takes part in every transfer."""

    @property
    def name(self) -> str:
        """What claims and messages call it, such as `bank-64` or `bank-64-hot`."""
        return f"{self.variant.name}-{self.connections}{'-hot' if self.hot else ''}"

    @property
    def title(self) -> str:
        """What the table calls it."""
        return self.variant.title + (", one hot account" if self.hot else "")


def lines_of(served: Sequence[Served], connections: Sequence[int], *, clients: int) -> list[Line]:
    """The table's lines: each variant with each number of connections; a hot account with the first of them.

    SQLAlchemy's second server is there to show which of the two it is to be held to, which one load does.
    """
    usual, *_ = connections
    lines: list[Line] = []
    for variant in served:
        counts = [usual] if variant is SQLALCHEMY_UVICORN else connections
        lines += [Line(variant=variant, connections=count) for count in counts]
        if variant is BANK:
            lines.append(Line(variant=variant, connections=usual, hot=True))
            # Beside the bank in time as well: theirs is the ratio that matters most.
            lines += [
                Line(variant=FUNCTION, connections=clients),
                Line(variant=FUNCTION, connections=clients, hot=True),
                Line(variant=STATEMENTS, connections=clients),
            ]
    return lines
