"""The few Protocols that one room offers and another needs.

A room imports a contract, never the driver behind it: so a unit runs over psycopg today and over an app's own
SQLAlchemy engine or Django connection without knowing. What a contract promises is tested once, over every backend.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, runtime_checkable

from workhorse.rate import Quota

__all__ = [
    "ApiKeyRecord",
    "ApiKeyStore",
    "CounterStore",
    "Database",
    "Exactness",
    "Grant",
    "Query",
    "ReadyCounters",
    "SessionRecord",
    "SessionStore",
    "Transaction",
]


class Query(NamedTuple):
    """A statement with `%s` placeholders, and its parameters: text, whole numbers, UUIDs, bytes or None."""

    sql: str
    params: Sequence[object] = ()


class Transaction(Protocol):
    """One open transaction on one connection. It ends once: by `commit`, `rollback` or `abandon`."""

    @property
    def connection(self) -> Any:
        """The driver's connection, for all that the driver can do but end the transaction.

        It is lent: after the end of the transaction it refuses to be used.
        """
        ...

    @property
    def lost(self) -> bool:
        """Whether the connection broke, so that the server has rolled back whatever was not committed."""
        ...

    async def execute(self, sql: str, params: Sequence[object] | Mapping[str, object] = ()) -> Any:
        """Run one statement and return the driver's cursor."""
        ...

    async def commit(self, last: Query | None = None) -> None:
        """Run `last` and COMMIT, in one round trip where the driver can; then give the connection back.

        Raises:
            UnitError: a statement had failed, or the transaction had been ended by others: nothing is committed.
            OutcomeUnknown: the connection broke before the server confirmed.
        """
        ...

    async def rollback(self) -> None:
        """Undo everything and give the connection back. Never raises for a connection that is lost."""
        ...

    async def abandon(self) -> None:
        """End the connection without a word to the server, which then rolls back. For cancelled work."""
        ...


class Database(Protocol):
    """Where transactions come from."""

    async def begin(self, first: Query | None = None) -> tuple[Transaction, Sequence[Any] | None]:
        """Open a transaction. With `first`, run it in the same round trip and return its first row, if any.

        Raises:
            DatabaseUnavailable: no connection could be had in time.
        """
        ...

    async def run(self, query: Query, *, repeatable: bool = False) -> Sequence[Sequence[Any]]:
        """Run one statement outside any unit, in one round trip; it commits by itself. Returns its rows.

        With `repeatable` it may run twice: it is sent again when the connection turns out to be dead.

        Raises:
            DatabaseUnavailable: the server could not be reached, or did not answer: it may have run all the same.
        """
        ...

    async def ping(self, *, deadline_seconds: float) -> None:
        """Ask the server for a sign of life.

        Raises:
            DatabaseUnavailable: none came within the deadline.
        """
        ...

    def conflicted(self, error: BaseException) -> bool:
        """Whether `error`, or what it wraps, says that the transaction lost to another and may be run again."""
        ...

    def disconnected(self, error: BaseException) -> bool:
        """Whether `error`, or what it wraps, says that the server ended the connection."""
        ...

    def timed_out(self, error: BaseException) -> bool:
        """Whether `error`, or what it wraps, says that a statement was ended because it took too long."""
        ...


class Exactness(StrEnum):
    """What a store of counters can promise."""

    SHARED = "shared"
    """Never over the limit, counted over all processes."""
    PROCESS = "process"
    """Never over the limit in one process; n processes admit n times as much."""


class Grant(NamedTuple):
    """What became of one quota."""

    admitted: bool
    """Whether this quota alone would have let the request in."""
    remaining: int
    """How many more would be let in at once now."""
    retry_after_us: int
    """Microseconds until it would be let in; 0 if it was."""
    reset_us: int
    """Microseconds until the whole capacity is there again."""


class CounterStore(Protocol):
    """Counters for rate limits (GCRA), by the store's own clock."""

    @property
    def exactness(self) -> Exactness:
        """What it promises."""
        ...

    async def take(self, quotas: Sequence[Quota], *, cost: int = 1) -> Sequence[Grant]:
        """Take `cost` from each of 1 to 16 quotas, or, if one of them does not admit it, from none.

        One round trip. A `cost` of 0 only looks.

        Raises:
            StoreUnavailable: the store did not answer in time. Whether anything was taken is not known.
        """
        ...

    async def forget(self, keys: Sequence[str]) -> None:
        """Make the counters full again.

        Raises:
            StoreUnavailable: the store did not answer in time.
        """
        ...


@runtime_checkable
class ReadyCounters(Protocol):
    """Counters that can often answer without waiting."""

    def take_at_once(self, quotas: Sequence[Quota], *, cost: int = 1) -> Sequence[Grant] | None:
        """What `CounterStore.take` would do; None, and nothing is taken, where it would have to wait."""
        ...


class SessionRecord(NamedTuple):
    """One session as a store keeps it. Times are in seconds since 1970, by the caller's clock."""

    digest: bytes
    """SHA-256 of the secret in the cookie: the store never sees the secret itself."""
    public_id: str
    """Names the session to its owner; opens nothing."""
    subject: str
    created: float
    """When the login was; rotation keeps it."""
    seen: float
    expires: float
    """The end, whatever is done with it."""
    idle_seconds: int
    """The end comes earlier, this long after `seen`."""
    data: bytes
    """What the session holds, encoded."""
    version: int
    """Counts the writes of `data`, so that none is lost: a write names the version that it read."""


class SessionStore(Protocol):
    """Sessions that can be revoked. Every method raises StoreUnavailable if the store does not answer in time."""

    async def insert(self, session: SessionRecord) -> None:
        """Keep a new session."""
        ...

    async def find(self, digest: bytes, *, now: float) -> SessionRecord | None:
        """The session, unless it is gone, expired or idle for too long."""
        ...

    async def touch(self, digest: bytes, *, seen: float) -> None:
        """Note that it was used. Never brings back a session that is gone."""
        ...

    async def write(self, digest: bytes, *, data: bytes, version: int) -> bool:
        """Replace the data of version `version`. False if it was written meanwhile, or the session is gone."""
        ...

    async def rotate(self, digest: bytes, fresh: SessionRecord) -> bool:
        """Replace the session by `fresh`, in one step. False if it is gone: then nothing is kept."""
        ...

    async def delete(self, digest: bytes) -> bool:
        """End a session. False if it was gone."""
        ...

    async def list(self, subject: str, *, now: float) -> Sequence[SessionRecord]:
        """The subject's sessions that are alive, the last used first; at most 100."""
        ...

    async def delete_all(self, subject: str, *, keep: bytes | None = None) -> int:
        """End the subject's sessions, but for the one with the digest `keep`. Returns how many it were."""
        ...

    async def purge(self, *, now: float) -> int:
        """Forget some that have ended; 0 when there are none left. A store that forgets by itself returns 0."""
        ...


class ApiKeyRecord(NamedTuple):
    """One API key as a store keeps it. Times are in seconds since 1970."""

    prefix: str
    """The public part of the key, by which it is found."""
    digest: bytes
    """SHA-256 of the secret part, which has 256 bits of chance and so needs no slow hash."""
    subject: str
    name: str
    """What the owner calls it."""
    scopes: tuple[str, ...]
    tenant: str
    created: float
    expires: float | None
    revoked: float | None
    used: float | None
    """When it was last used, as exactly as `note_use` is called."""


class ApiKeyStore(Protocol):
    """API keys. Every method raises StoreUnavailable if the store does not answer in time."""

    async def insert(self, key: ApiKeyRecord) -> None:
        """Keep a new key."""
        ...

    async def find(self, prefix: str) -> ApiKeyRecord | None:
        """The key, expired and revoked ones too."""
        ...

    async def list(self, subject: str) -> Sequence[ApiKeyRecord]:
        """The subject's keys, the newest first; at most 1,000."""
        ...

    async def expire(self, prefix: str, *, at: float) -> bool:
        """Let it end at a time that is not later than it would anyway: a rotated key's overlap. False if unknown."""
        ...

    async def revoke(self, prefix: str, *, at: float) -> bool:
        """End it. False if it is unknown or ended before."""
        ...

    async def note_use(self, uses: Mapping[str, float]) -> None:
        """Note when keys were last used; an older time never replaces a newer."""
        ...
