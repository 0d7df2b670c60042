"""Jobs on their way into the database: a row each, and the box that carries those of one unit with its COMMIT."""

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Final
from uuid import UUID

import msgspec

from workhorse.contracts import Query
from workhorse.jobs.arguments import encode_json
from workhorse.sql import Queries, load_queries

__all__ = ["JobBox", "JobRow", "enqueue_statement", "queries"]

# What waits in one unit at most; then it is written ahead of the commit.
FULL_JOBS: Final = 500
FULL_BYTES: Final = 1024 * 1024


class JobRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One job, as the function `workhorse.enqueue_jobs` takes it."""

    id: UUID
    name: str
    queue: str
    version: int
    priority: int
    attempts: int
    blocks: bool
    arguments: msgspec.Raw
    at: datetime | None = None
    delay: float | None = None
    key: str | None = None
    unique_digest: UUID | None = None
    unique_seconds: float | None = None
    origin: msgspec.Raw | None = None


@cache
def queries() -> Queries:
    """The queries of this room, read once."""
    return load_queries("workhorse.jobs", "sql/queries.sql")


def enqueue_parameters(rows: Sequence[JobRow]) -> tuple[str, str, str]:
    """What `workhorse.enqueue_jobs` takes: the jobs, and whether any has an ordering key or a unique one."""
    keyed = any(row.key is not None for row in rows)
    unique = any(row.unique_digest is not None for row in rows)
    return encode_json(rows).decode(), str(keyed).lower(), str(unique).lower()


def enqueue_statement(rows: Sequence[JobRow]) -> Query:
    """The one statement that writes all of `rows`, in order."""
    return Query(queries()["enqueue"], enqueue_parameters(rows))


class JobBox:
    """The jobs of one unit (see `units.work.Outbox`)."""

    __slots__ = ("_bytes", "_rows")

    def __init__(self) -> None:
        self._rows: list[JobRow] = []
        self._bytes = 0

    @property
    def full(self) -> bool:
        """Whether the jobs should be written now rather than with the commit."""
        return len(self._rows) >= FULL_JOBS or self._bytes >= FULL_BYTES

    def add(self, row: JobRow, /) -> None:
        """Take a job."""
        self._rows.append(row)
        self._bytes += len(memoryview(row.arguments))

    def drain(self) -> Query | None:
        """Give the jobs as one statement, and forget them."""
        if not self._rows:
            return None
        rows, self._rows, self._bytes = self._rows, [], 0
        return enqueue_statement(rows)
