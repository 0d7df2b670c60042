"""Several commands in one round trip: libpq's pipeline mode, flushed once.

psycopg has a pipeline too, which flushes after every command: the server's process is woken for each, and the client
makes several system calls for each. A unit's first and last round trip are on the path of every request, so they are
made here on psycopg's own libpq wrapper: queue everything, one flush, read until the sync point. That halves what the
two together cost through `connection.pipeline()`.

Statements may be prepared once per connection, in the round trip of their first use. Parameters travel as
text, bytes in binary, and the server infers their types: so a statement has one plan whatever Python types come.
"""

from collections.abc import Generator, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final
from uuid import UUID

from psycopg import AsyncConnection, OperationalError, errors, pq
from psycopg.adapt import Transformer
from psycopg.waiting import Ready, Wait, wait_async

from workhorse.contracts import Query

__all__ = ["Prepared", "numbered", "round_trip"]

Prepared = set[bytes]
"""The statements that one connection has prepared, by name."""

# As psycopg does itself: how often a wait looks whether the loop has been asked to end.
WAKE_SECONDS: Final = 0.1

_FAILED = frozenset({pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.BAD_RESPONSE, pq.ExecStatus.NONFATAL_ERROR})


@lru_cache(maxsize=256)
def numbered(sql: str) -> tuple[bytes, bytes]:
    """A name for the statement, and its text with `$1` for the first `%s` (the protocol's own style).

    Raises:
        ValueError: it has named placeholders, or a lone percent sign.
    """
    parts = sql.replace("%%", "\0").split("%s")
    if any("%" in part for part in parts):
        raise ValueError(f"only %s and %% are allowed here: {sql}")
    text = "".join(f"{part}${number}" for number, part in enumerate(parts[:-1], start=1)) + parts[-1]
    text = text.replace("\0", "%")
    digest = blake2b(text.encode(), digest_size=8).hexdigest()
    return f"workhorse_{digest}".encode(), text.encode()


def encoded(params: Sequence[object]) -> tuple[list[bytes | None], list[int]]:
    """The parameters as the wire carries them, and the format of each: 1 for binary, 0 for text.

    Raises:
        TypeError: a value is of a type that is not used here.
        ValueError: a text holds the character U+0000, at which libpq would cut it off without a word.
    """
    values: list[bytes | None] = []
    formats: list[int] = []
    for param in params:
        if param is None:
            values.append(None)
        elif isinstance(param, bytes):
            values.append(param)
        elif isinstance(param, (str, int, UUID)):
            text = str(param)
            if "\0" in text:
                raise ValueError(f"Postgres cannot keep the character U+0000, which {text[:80]!r} holds; leave it out")
            values.append(text.encode())
        else:
            raise TypeError(f"{type(param).__name__} cannot be sent in a round trip of a unit")
        formats.append(1 if isinstance(param, bytes) else 0)
    return values, formats


async def round_trip(
    connection: AsyncConnection[Any], commands: Sequence[Query], prepared: Prepared | None, *, commits: bool = False
) -> list[Sequence[tuple[Any, ...]]]:
    """Run the commands in one round trip, and return the rows of each.

    Args:
        connection: psycopg's; nobody else may use it meanwhile.
        commands: run in order. When one fails, those after it are not run.
        prepared: what this connection has prepared; added to. None prepares nothing, so nothing can be forgotten.
        commits: whether something is committed on the way. A wait for that which is given up must not become a request
            to cancel, which is how psycopg answers a cancellation: a COMMIT that waits for its synchronous standby
            would be ended by it, and visible without being replicated. The connection has to be closed then.

    Raises:
        psycopg.Error: the first failure of a command, or the connection broke.
    """
    exchange = _exchange(connection.pgconn, commands, prepared)
    async with connection.lock:
        if commits:
            results = await wait_async(exchange, connection.pgconn.socket, WAKE_SECONDS)
        else:
            results = await connection.wait(exchange)
    rows: list[Sequence[tuple[Any, ...]]] = []
    for command, result in zip(commands, results, strict=True):
        if command.sql == "COMMIT" and result.command_status != b"COMMIT":
            # The tag of a transaction that had failed is ROLLBACK, and no error comes with it.
            raise errors.InFailedSqlTransaction(
                "a statement failed as the commit was on its way: nothing was committed"
            )
        if result.ntuples == 0:
            rows.append(())
            continue
        transformer = Transformer(connection)
        transformer.set_pgresult(result)
        rows.append(transformer.load_rows(0, result.ntuples, tuple))
    return rows


def _exchange(
    pgconn: pq.abc.PGconn, commands: Sequence[Query], prepared: Prepared | None
) -> Generator[Wait, Ready | int, list[pq.abc.PGresult]]:
    """The conversation, for psycopg to wait on: yields what to wait for, and is sent what is ready."""
    # Encoded before anything is sent: a value that cannot travel must leave the connection as it was.
    ready = [(*numbered(command.sql), *encoded(command.params)) for command in commands]
    pgconn.enter_pipeline_mode()
    expected = _queue(pgconn, ready, prepared)
    while pgconn.flush():
        if (yield Wait.RW) & Ready.R:
            pgconn.consume_input()
    results: list[pq.abc.PGresult] = []
    failure: pq.abc.PGresult | None = None
    for name in expected:
        result = yield from _next_result(pgconn)
        if result is not None and result.status in _FAILED:
            failure = failure or result
        elif name and prepared is not None and result is not None and result.status == pq.ExecStatus.COMMAND_OK:
            prepared.add(name)
        elif result is not None:
            results.append(result)
        # libpq ends the results of each command with an empty one.
        while result is not None:
            result = yield from _next_result(pgconn)
    sync = yield from _next_result(pgconn)
    if sync is None or sync.status != pq.ExecStatus.PIPELINE_SYNC:
        raise OperationalError("the server and this client disagree on where a round trip ends")
    pgconn.exit_pipeline_mode()
    if failure is not None:
        error = errors.error_from_result(failure, "utf-8")
        if prepared is not None and isinstance(error, errors.InvalidSqlStatementName):
            # Somebody else on this connection said DEALLOCATE ALL, as psycopg does after some statements of the app.
            prepared.clear()
        raise error
    return results


def _queue(
    pgconn: pq.abc.PGconn,
    commands: Sequence[tuple[bytes, bytes, list[bytes | None], list[int]]],
    prepared: Prepared | None,
) -> list[bytes]:
    """Queue the commands. Returns, per result to come, the name of the statement that it prepares, or nothing."""
    expected: list[bytes] = []
    for name, text, values, formats in commands:
        if prepared is None:
            pgconn.send_query_params(text, values, None, formats, pq.Format.BINARY)
        else:
            if name not in prepared and name not in expected:
                pgconn.send_prepare(name, text)
                expected.append(name)
            pgconn.send_query_prepared(name, values, formats, pq.Format.BINARY)
        expected.append(b"")
    pgconn.pipeline_sync()
    return expected


def _next_result(pgconn: pq.abc.PGconn) -> Generator[Wait, Ready | int, pq.abc.PGresult | None]:
    while pgconn.is_busy():
        yield Wait.R
        pgconn.consume_input()
    return pgconn.get_result()
