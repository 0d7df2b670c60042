"""What is timed: the same transfer, served in different ways. Every server has one worker unless told otherwise."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from benchmarks.bank.databases import BANK_FOLDER, BENCHMARKS, DRIVER, in_driver
from benchmarks.bank.issuer import AUDIENCE

__all__ = ["BANK", "PGBENCH", "PSYCOPG", "SERVED", "SQLALCHEMY", "Ledger", "Served", "Servers"]

Ledger = Literal["bank", "plain"]
"""Whose tables: the bank's own, or those of the SQLAlchemy peer."""

BIN: Final = Path(sys.executable).parent
GRANIAN: Final = (
    *(BIN / "granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}"),
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


BANK: Final = Served(
    name="bank",
    title="bank: Workhorse on granian, all on",
    ledger="bank",
    command=(
        *(BIN / "workhorse", "run", "bank.app:service", "--host", "127.0.0.1", "--port", "{port}"),
        *("--workers", "{workers}"),
    ),
    folder=BANK_FOLDER,
    ready="/-/ready",
    # As it would run with real money: production's rules, tokens, rates counted in a cache, access lines, metrics, and
    # no default turned off.
    settings=(
        ("WORKHORSE_ENVIRONMENT", "production"),
        ("WORKHORSE_GUARD__ALLOWED_HOSTS", "127.0.0.1"),
        ("WORKHORSE_IDENTITY__ISSUERS", "{issuer}"),
        ("WORKHORSE_IDENTITY__AUDIENCE", AUDIENCE),
        ("CACHE_URL", "{cache}"),
    ),
)
PSYCOPG: Final = Served(
    name="psycopg",
    title="FastAPI + psycopg on granian",
    ledger="bank",
    command=(*GRANIAN, "peers.psycopg_bank:app"),
    folder=BENCHMARKS,
    ready="/openapi.json",
)
SQLALCHEMY: Final = Served(
    name="sqlalchemy",
    title="FastAPI + SQLAlchemy on granian",
    ledger="plain",
    command=(*GRANIAN, "peers.sqlalchemy_bank:app"),
    folder=BENCHMARKS,
    ready="/openapi.json",
    driver=DRIVER,
)
SQLALCHEMY_UVICORN: Final = Served(
    name="sqlalchemy-uvicorn",
    title="FastAPI + SQLAlchemy on uvicorn",
    ledger="plain",
    command=(*UVICORN, "peers.sqlalchemy_bank:app"),
    folder=BENCHMARKS,
    ready="/openapi.json",
    driver=DRIVER,
)

SERVED: Final = (BANK, PSYCOPG, SQLALCHEMY, SQLALCHEMY_UVICORN)
PGBENCH: Final = "pgbench"
