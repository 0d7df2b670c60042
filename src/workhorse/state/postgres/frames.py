"""Queries whose rows come as Arrow record batches, on connections that are theirs alone (ADBC).

The driver reads a query by COPY in binary form and fills Arrow's buffers in C: 50 to 65 per cent of the speed of a raw
COPY, and the memory of one batch. It does that only for statements without parameters; with parameters it reads the
whole result first. So parameters are put into the statement as literals, quoted by libpq's rules (psycopg's
`sql.Literal`).

The driver blocks, so each connection is used in a thread of a pool as large as the connections are many. A stream that
is given up is cancelled on the server, and its connection is closed: what it was doing is of no use to the next.

Sessions are read-only, end long statements, take little memory and no parallel workers, and do not wait for locks: this
is what keeps them out of the transactions' way on a shared server. Postgres knows no priorities.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from workhorse.contracts.frames import QueryFailed
from workhorse.errors import DatabaseTimeout, DatabaseUnavailable, SettingsError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FrameStream", "PostgresFrames", "bind"]

T = TypeVar("T")

_PLACEHOLDER: Final = re.compile(
    r"%(?:(?P<percent>%)|(?P<next>s)|\((?P<name>[A-Za-z_][A-Za-z0-9_]*)\)s|(?P<odd>.?))", re.DOTALL
)
# Longer statements are data that went astray.
MAX_STATEMENT: Final = 1_000_000
# How long a cancelled read may take to come back, before its connection is left to its thread.
CANCEL_SECONDS: Final = 10.0
# The words of the server within those of the driver.
SAID: Final = re.compile(r"ERROR:\s+([^\n]*)")
# What the server says of a statement that took too long, a lock that was not had, and a session that ends.
TIMED_OUT: Final = ("statement timeout", "lock timeout", "SQLSTATE: 57014", "SQLSTATE: 55P03")
AWAY: Final = ("08", "57P", "53300")
LOST: Final = (
    "server closed the connection",
    "no connection to the server",
    "connection to server",
    "terminating connection",
)


def bind(statement: str, params: Sequence[object] | Mapping[str, object]) -> str:
    """Put `params` in the places of `%s`, or of `%(name)s`, as quoted literals; `%%` is a per cent sign.

    Raises:
        ValueError: there are more or fewer places than values, another sign follows `%`, or the text has U+0000.
    """
    named = isinstance(params, Mapping)
    values = iter(() if isinstance(params, Mapping) else params)
    used: set[str] = set()

    def literal(found: re.Match[str]) -> str:
        if found["percent"]:
            return "%"
        if found["odd"] is not None:
            raise ValueError(
                f"the query has {found[0]!r}; write %s or %(name)s for a value, and %% for a per cent sign"
            )
        if found["name"]:
            if not isinstance(params, Mapping) or found["name"] not in params:
                raise ValueError(f"the query names {found[0]}, and no such value was given")
            used.add(found["name"])
            value = params[found["name"]]
        elif named:
            raise ValueError("the query has %s and its values have names; write %(name)s")
        else:
            try:
                value = next(values)
            except StopIteration:
                raise ValueError(f"the query has more places than the {len(params)} values given") from None
        # Between brackets, so that a negative number does not make a comment of the minus before it.
        return f"({sql.Literal(value).as_string().strip()})"

    bound = _PLACEHOLDER.sub(literal, statement)
    left = [name for name in params if name not in used] if isinstance(params, Mapping) else list(values)
    if left:
        raise ValueError(f"the query has no place for {len(left)} of its values")
    if "\0" in bound or len(bound) > MAX_STATEMENT:
        raise ValueError(f"the query has U+0000, or more than {MAX_STATEMENT} characters")
    return bound


class FrameStream:
    """The rows of one query, batch by batch. Lives within `PostgresFrames.stream`."""

    __slots__ = ("_next", "schema")

    def __init__(self, schema: "pa.Schema", read_next: "Callable[[], Awaitable[pa.RecordBatch | None]]") -> None:
        self.schema = schema
        self._next = read_next

    async def __aiter__(self) -> "AsyncIterator[pa.RecordBatch]":
        while (batch := await self._next()) is not None:
            yield batch


class PostgresFrames:
    """Connections for queries that are read as Arrow.

    Args:
        url: a libpq connection URL; that of a replica keeps them off the primary altogether.
        connections: queries at a time; others wait.
        acquire_timeout_seconds: longest wait for a turn.
        connect_timeout_seconds: longest wait for the server to accept a connection.
        statement_timeout_seconds: the server ends a longer query, the sending of its rows included.
        batch_bytes: of a batch, about.
        work_mem_bytes: of one sort or hash.
        parallel_workers: processes of the server beside the one that a query has.
    """

    def __init__(
        self,
        url: str,
        *,
        connections: int = 2,
        acquire_timeout_seconds: float = 5,
        connect_timeout_seconds: int = 5,
        statement_timeout_seconds: float = 300,
        batch_bytes: int = 1024 * 1024,
        work_mem_bytes: int = 32 * 1024 * 1024,
        parallel_workers: int = 0,
    ) -> None:
        milliseconds = int(statement_timeout_seconds * 1000)
        options = (
            f"{conninfo_to_dict(url).get('options') or ''}"
            " -c default_transaction_read_only=on -c standard_conforming_strings=on -c lock_timeout=1000"
            f" -c statement_timeout={milliseconds} -c idle_in_transaction_session_timeout={milliseconds}"
            f" -c work_mem={max(64, work_mem_bytes // 1024)} -c max_parallel_workers_per_gather={parallel_workers}"
        ).strip()
        self._conninfo = make_conninfo(
            url,
            options=options,
            application_name="workhorse analytics",
            client_encoding="UTF8",
            connect_timeout=connect_timeout_seconds,
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
        )
        self._acquire_timeout = acquire_timeout_seconds
        self._batch_bytes = batch_bytes
        self._turns = asyncio.Semaphore(connections)
        self._idle: list[Any] = []
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="analytics")
        self._closed = False

    def __repr__(self) -> str:
        return f"<PostgresFrames {len(self._idle)} idle>"

    async def close(self) -> None:
        """Close the connections. Streams under way end with an error."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            await self._run(connection.close)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def bind(self, statement: str, params: Sequence[object] | Mapping[str, object]) -> str:
        """See `bind`."""
        return bind(statement, params)

    @asynccontextmanager
    async def stream(self, statement: str, *, shape: "Callable[[pa.Schema], str]") -> AsyncGenerator[FrameStream]:
        """Run a query (see `contracts.FrameSource`)."""
        async with self._turn():
            connection, cursor, schema = await self._describe(statement)
            reading = Reading(cursor, self._batch_bytes)
            whole = False
            try:
                reading.statement = shape(schema)
                columns = await self._run(reading.start, cancel=reading.cancel)

                async def following() -> Any:
                    return await self._run(reading.following, cancel=reading.cancel)

                yield FrameStream(columns, following)
                whole = reading.whole
            finally:
                # Another query on a connection with half a result on it would wait for the other half.
                if not whole:
                    reading.cancel()
                with contextlib.suppress(Exception):
                    await self._finish(reading.end)
                if whole and not self._closed:
                    self._idle.append(connection)
                else:
                    with contextlib.suppress(Exception):
                        await self._finish(connection.close)

    async def _describe(self, statement: str) -> "tuple[Any, Any, pa.Schema]":
        """A connection, a cursor on it, and the columns of the statement.

        A connection may have died in its sleep. That shows here, when nothing has been done, and another is taken.
        """
        while True:
            slept = bool(self._idle)
            connection = self._idle.pop() if slept else await self._run(self._connect)
            cursor = connection.cursor()
            try:
                schema = await self._run(cursor.adbc_execute_schema, statement, cancel=cursor.adbc_cancel)
            except BaseException as error:
                with contextlib.suppress(Exception):
                    await self._finish(cursor.close)
                    await self._finish(connection.close)
                if slept and isinstance(error, DatabaseUnavailable):
                    continue
                raise
            return connection, cursor, schema

    @asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None]:
        if self._closed:
            raise DatabaseUnavailable
        try:
            async with asyncio.timeout(self._acquire_timeout):
                await self._turns.acquire()
        except TimeoutError:
            raise DatabaseUnavailable("Too many queries are running. Send the request again later.") from None
        try:
            yield
        finally:
            self._turns.release()

    def _connect(self) -> Any:
        try:
            import adbc_driver_postgresql.dbapi as adbc  # noqa: PLC0415 - an optional library, of 30 MB
        except ImportError as error:
            raise SettingsError("queries as Arrow need a driver: pip install 'workhorse[analytics]'") from error
        return adbc.connect(self._conninfo, autocommit=True)

    async def _finish(self, call: Callable[[], object]) -> None:
        """Call in a thread, and wait for it also while cancelled: what is open must be closed."""
        done = asyncio.get_running_loop().run_in_executor(self._threads, call)
        try:
            await asyncio.shield(done)
        except asyncio.CancelledError:
            await asyncio.wait({done}, timeout=CANCEL_SECONDS)
            raise

    async def _run(self, call: Callable[..., T], *args: object, cancel: Callable[[], object] | None = None) -> T:
        """Call in a thread. Cancelled, it has the server end the statement, and waits for the thread to be free."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, call, *args)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if cancel is not None:
                with contextlib.suppress(Exception):
                    cancel()
            await asyncio.wait({future}, timeout=CANCEL_SECONDS)
            if future.done() and not future.cancelled():
                future.exception()  # taken, so that nobody misses it
            raise
        except SettingsError:
            raise
        except Exception as error:
            raise told(error) from error


class Reading:
    """One query on one cursor: what is called in threads, one call at a time; `cancel` at any time."""

    def __init__(self, cursor: Any, batch_bytes: int) -> None:
        self._cursor = cursor
        self.statement = ""
        self._batch_bytes = batch_bytes
        self._reader: Any = None
        self.whole = False
        """Whether all rows were read."""

    def start(self) -> "pa.Schema":
        """Run the query, and return its columns."""
        from adbc_driver_postgresql import StatementOptions  # noqa: PLC0415 - an optional library

        hint = {StatementOptions.BATCH_SIZE_HINT_BYTES.value: str(self._batch_bytes)}
        self._cursor.adbc_statement.set_options(**hint)
        self._cursor.execute(self.statement)
        self._reader = self._cursor.fetch_record_batch()
        return self._reader.schema

    def following(self) -> "pa.RecordBatch | None":
        """The next batch; None after the last."""
        try:
            return self._reader.read_next_batch()
        except StopIteration:
            self.whole = True
            return None

    def cancel(self) -> None:
        """Have the server end the statement."""
        with contextlib.suppress(Exception):
            self._cursor.adbc_cancel()

    def end(self) -> None:
        """Close what is open."""
        for opened in (self._reader, self._cursor):
            if opened is not None:
                opened.close()


def told(error: Exception) -> Exception:
    """What the driver's error is to the caller. While rows are read, ADBC says no more than the server's words."""
    text, state = str(error), getattr(error, "sqlstate", None) or ""
    if any(words in text for words in TIMED_OUT):
        return DatabaseTimeout("The query took too long. Ask for less.")
    if state.startswith(AWAY) or any(words in text for words in LOST):
        return DatabaseUnavailable()
    # Not the whole text, which has the statement, and so the values that were bound.
    said = SAID.search(text)
    return QueryFailed(f"the database refused it: {said[1] if said else type(error).__name__}")
