"""The engines that are compared, one a file. Each is loaded in the processes that run it, and nowhere else."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Final, cast

from benchmarks.jobs.engine import Engine, Servers

__all__ = ["ENTRIES", "OURS", "Entry", "load"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An engine in the table."""

    title: str
    package: str
    """Whose version is told."""
    jobs: int
    """In each drain: some seconds' worth for two workers, so that every engine is timed for about as long."""
    on_postgres: bool = True


OURS: Final = "workhorse"
ENTRIES: Final[Mapping[str, Entry]] = {
    OURS: Entry(title="Workhorse", package="workhorse", jobs=20_000),
    "workhorse_effects": Entry(title="Workhorse, a row each", package="workhorse", jobs=5_000),
    "pgqueuer": Entry(title="PgQueuer", package="pgqueuer", jobs=20_000),
    "dbos": Entry(title="DBOS", package="dbos", jobs=3_000),
    "procrastinate": Entry(title="procrastinate", package="procrastinate", jobs=2_000),
    "celery": Entry(title="Celery on Valkey", package="celery", jobs=5_000, on_postgres=False),
}


def load(name: str, servers: Servers) -> Engine:
    """The engine of this name. Its module is `engines/<name>_engine.py`, as the library has the plain name."""
    return cast("Engine", import_module(f"benchmarks.jobs.engines.{name}_engine").make(servers))
