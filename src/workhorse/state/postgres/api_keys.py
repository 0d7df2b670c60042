"""API keys in Postgres: one row a key, one statement a method, in one round trip.

Every statement bears to be run twice, and then finds what it did before: it is sent again when a pooled connection
turns out to be dead. The rows of ended keys stay: they tell an auditor who could do what, and until when.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from workhorse.contracts import ApiKeyRecord, Database
from workhorse.sql import load_queries
from workhorse.state.postgres.statements import Statements

__all__ = ["PostgresApiKeys"]

MAX_NOTED: Final = 1_000


class PostgresApiKeys:
    """A `contracts.ApiKeyStore` that all processes with the same database share.

    Args:
        database: where the table `api_keys` is. It should be the primary: a replica that lags behind takes a revoked
            key for as much longer.
        timeout_seconds: longest wait for one answer, that for a free connection included.
    """

    def __init__(self, database: Database, *, timeout_seconds: float = 2.0) -> None:
        queries = load_queries("workhorse.state.postgres", "sql/api_keys.sql")
        self._statements = Statements(database, queries, timeout_seconds=timeout_seconds)

    async def insert(self, key: ApiKeyRecord) -> bool:
        """Keep a new key. False if another key has the prefix.

        Raises:
            StoreUnavailable: the server did not answer in time.
        """
        return bool(await self._statements.run("insert", *params_of(key)))

    async def find(self, prefix: str) -> ApiKeyRecord | None:
        """The key, expired and revoked ones too.

        Raises:
            StoreUnavailable: the server did not answer in time.
        """
        rows = await self._statements.run("find", prefix)
        return record_of(rows[0]) if rows else None

    async def list(self, subject: str) -> Sequence[ApiKeyRecord]:
        """The subject's keys, those not revoked first, of each the newest first.

        Raises:
            StoreUnavailable: the server did not answer in time.
        """
        return [record_of(row) for row in await self._statements.run("list", subject)]

    async def rotate(self, prefix: str, fresh: ApiKeyRecord, *, ends: float, now: float) -> bool:
        """Keep `fresh`, and let the key end at `ends` if it would not end earlier.

        Raises:
            StoreUnavailable: the server did not answer in time. It may have been done.
        """
        return bool(await self._statements.run("rotate", *params_of(fresh), repr(ends), prefix, repr(now)))

    async def revoke(self, prefix: str, *, at: float) -> bool:
        """End it. False if it is unknown or had ended.

        Raises:
            StoreUnavailable: the server did not answer in time. It may have been done.
        """
        return bool(await self._statements.run("revoke", repr(at), prefix))

    async def revoke_all(self, subject: str, *, at: float) -> int:
        """End the subject's keys. Returns how many had not ended.

        Raises:
            StoreUnavailable: the server did not answer in time. It may have been done.
        """
        ((ended,),) = await self._statements.run("revoke_all", repr(at), subject)
        return int(ended)

    async def note_use(self, uses: Mapping[str, float]) -> None:
        """Note when keys were last used; an older time never replaces a newer.

        Raises:
            StoreUnavailable: the server did not answer in time.
            ValueError: there are more than 1,000.
        """
        if len(uses) > MAX_NOTED:
            raise ValueError(f"{len(uses)} uses are too many for one statement; note at most {MAX_NOTED} at once")
        if uses:
            await self._statements.run("note_use", array(uses), array(map(repr, uses.values())))


def params_of(key: ApiKeyRecord) -> tuple[str | bytes | None, ...]:
    """The record as the columns take it. Times travel as text, for which `repr` is exact."""
    times = (None if at is None else repr(float(at)) for at in (key.created, key.expires, key.revoked, key.used))
    return (key.prefix, key.digest, key.subject, key.name, array(key.scopes), key.tenant, *times)


def record_of(row: Sequence[Any]) -> ApiKeyRecord:
    """The record that a row holds."""
    prefix, digest, subject, name, scopes, tenant, *times = row
    return ApiKeyRecord(prefix, bytes(digest), subject, name, tuple(scopes), tenant, *times)


def array(values: Iterable[str]) -> str:
    """An array of texts as Postgres reads it (manual, section 8.15.2)."""
    quoted = ('"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values)
    return "{" + ",".join(quoted) + "}"
