"""Another Postgres server as the engine, or what speaks its protocol and its SQL, such as Citus.

Rows and position commit in one transaction. A `numeric` takes any number that an event may have, so nothing is odd
here but what is of another kind.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from workhorse.contracts.frames import QueryFailed
from workhorse.contracts.warehouse import CopiedRow, Kind, MeasuredRow, Question, Shape
from workhorse.errors import DatabaseTimeout, DatabaseUnavailable, SettingsError
from workhorse.sql import load_queries
from workhorse.state.postgres.faults import timed_out
from workhorse.state.postgres.frames import PostgresFrames
from workhorse.state.warehouses.asking import asked, odd_name, starts_of
from workhorse.state.warehouses.places import check_there, unseen

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["PostgresEngine"]

TYPES: Final[dict[Kind, str]] = {"text": "text", "number": "numeric", "json": "jsonb"}
LOCK_SECONDS: Final = 5
"""A new column waits no longer for those who read the table, since others would wait behind it."""
CONNECT_SECONDS: Final = 10
CONNECTIONS: Final = 4
"""Statements at a time."""


_encode: Final = msgspec.json.encode


class PostgresEngine:
    """See `contracts.warehouse.Engine`.

    Args:
        url: a libpq connection URL.
        statement_timeout_seconds: the server ends a longer statement.
    """

    def __init__(self, url: str, *, statement_timeout_seconds: float = 300) -> None:
        self._conninfo = make_conninfo(
            url,
            options=(
                f"{conninfo_to_dict(url).get('options') or ''} -c lock_timeout={LOCK_SECONDS * 1000}"
                f" -c statement_timeout={int(statement_timeout_seconds * 1000)}"
                f" -c idle_in_transaction_session_timeout={int(statement_timeout_seconds * 1000)}"
            ).strip(),
            application_name="workhorse warehouse",
            client_encoding="UTF8",
            connect_timeout=CONNECT_SECONDS,
        )
        self.frames = PostgresFrames(url, statement_timeout_seconds=statement_timeout_seconds)
        self._queries = load_queries("workhorse.state.warehouses", "sql/postgres.sql")
        self._turns = asyncio.Semaphore(CONNECTIONS)
        self._idle: list[psycopg.AsyncConnection[Any]] = []
        self._ready: set[str] = set()
        self._closed = False

    def __repr__(self) -> str:
        return "<PostgresEngine>"

    async def append(self, shape: Shape, rows: Sequence[CopiedRow]) -> int:
        """See `contracts.warehouse.Engine`."""
        if not rows:
            return 0
        async with self._connection() as connection:
            await self._prepare(connection, shape)
            async with connection.transaction():
                await connection.execute(self._sql("first_place"), (shape.definition,))
                cursor = await connection.execute(self._sql("place"), (shape.definition,))
                noted = await cursor.fetchone()
                new, there = unseen(rows, noted, shape.definition)
                if there:
                    known = self._queries["known"].format(table=shape.table).encode()
                    cursor = await connection.execute(known, ([row.id for row in there],))
                    check_there(there, (await cursor.fetchone() or (0,))[0], shape.definition)
                if new:
                    await connection.execute(self._append(shape), (_encoded(shape, new),))
                    await connection.execute(self._sql("move"), (*new[-1].place, shape.definition))
                return len(new)

    async def clear(self, shape: Shape) -> None:
        """See `contracts.warehouse.Engine`."""
        async with self._connection() as connection:
            await self._prepare(connection, shape)
            async with connection.transaction():
                await connection.execute(self._sql("place"), (shape.definition,))
                await connection.execute(self._queries["clear"].format(table=shape.table).encode())
                await connection.execute(self._sql("forget"), (shape.definition,))

    async def measure(self, question: Question) -> list[MeasuredRow]:
        """See `contracts.warehouse.Engine`."""
        made = asked(self._queries["measure"], question, place="%s", types=TYPES)
        async with self._connection() as connection:
            await self._prepare(connection, question.shape)
            cursor = await connection.execute(made.statement.encode(), made.params)
            return [
                MeasuredRow(
                    starts=starts_of(row[0]),
                    by=row[8:],
                    events=row[1],
                    rejected=row[2],
                    odd=row[3],
                    sum=row[4],
                    min=row[5],
                    max=row[6],
                    average=row[7],
                )
                for row in await cursor.fetchall()
            ]

    async def arrow(self, statement: str, params: Sequence[object], *, max_rows: int) -> "pa.Table":
        """See `contracts.warehouse.Engine`. Numbers come as text; `frames` is what gives them their types."""
        import pyarrow as pa  # noqa: PLC0415 - an optional library

        bound = self.frames.bind(statement, params)
        batches: list[pa.RecordBatch] = []
        rows = 0
        async with self.frames.stream(bound, shape=lambda _: bound) as stream:
            async for batch in stream:
                rows += batch.num_rows
                batches.append(batch)
                if rows > max_rows:
                    break
            return pa.Table.from_batches(batches, schema=stream.schema)

    async def close(self) -> None:
        """See `contracts.warehouse.Engine`."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.close()
        await self.frames.close()

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[psycopg.AsyncConnection[Any]]:
        """A connection for one statement or transaction. After an error it is closed: nothing says what it is in."""
        if self._closed:
            raise DatabaseUnavailable
        async with self._turns:
            try:
                slept = self._idle.pop() if self._idle else None
                if slept is not None and slept.closed:
                    slept = None
                connection = slept or await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True)
                try:
                    yield connection
                except BaseException:
                    await connection.close()
                    raise
            except psycopg.Error as error:
                # What sleeps may have gone with the same restart of the server.
                await self._forget_idle()
                raise _told(error) from error
            await self._keep(connection)

    async def _keep(self, connection: psycopg.AsyncConnection[Any]) -> None:
        if self._closed:
            await connection.close()
        else:
            self._idle.append(connection)

    async def _forget_idle(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.close()

    async def _prepare(self, connection: psycopg.AsyncConnection[Any], shape: Shape) -> None:
        """Make what is missing, in a transaction of its own: who may only read can do so where nothing is."""
        if shape.definition in self._ready:
            return
        missing = self._missing(shape, await self._columns(connection, shape))
        if missing:
            async with connection.transaction():
                await connection.execute(self._sql("making"))
                for statement in self._sql("prepare").split(";"):
                    await connection.execute(statement.encode())
                for statement in self._sql("create").format(table=shape.table).split(";"):
                    await connection.execute(statement.encode())
                # Another process may have made some of them while this one waited for its turn.
                for name, type_ in self._missing(shape, await self._columns(connection, shape)).items():
                    await connection.execute(
                        f'ALTER TABLE warehouse."{shape.table}" ADD COLUMN IF NOT EXISTS "{name}" {type_}'.encode()
                    )
        self._ready.add(shape.definition)

    async def _columns(self, connection: psycopg.AsyncConnection[Any], shape: Shape) -> dict[str, str]:
        cursor = await connection.execute(self._sql("columns"), (shape.table,))
        return dict(await cursor.fetchall())

    def _missing(self, shape: Shape, found: Mapping[str, str]) -> dict[str, str]:
        wanted = {name: TYPES[kind] for name, kind in shape.columns.items()}
        for name, type_ in wanted.items():
            if found.get(name, type_) != type_:
                raise SettingsError(
                    f"the column {name!r} of the table {shape.table!r} is {found[name]} in the warehouse, and is"
                    f" declared as {type_}; give the new one another name"
                )
        wanted |= {odd_name(name): "text" for name in shape.columns}
        # A table without columns of its own is missing as a whole.
        return {name: type_ for name, type_ in (wanted | {"id": "uuid"}).items() if name not in found}

    def _append(self, shape: Shape) -> bytes:
        own = [*shape.columns, *(odd_name(name) for name in shape.columns)]
        kinds = {**{name: TYPES[kind] for name, kind in shape.columns.items()}}
        given = ["id uuid", "type text", "occurred_at timestamptz", "subject text", *(f'"{name}" text' for name in own)]
        names = ["id", "type", "occurred_at", "subject", *(f'"{name}"' for name in own)]
        values = [*names[:4], *(f'"{name}"::{kinds.get(name, "text")}' for name in own)]
        updated = [*(["subject"] if shape.subject else []), *own]
        statement = self._queries["append"].format(
            table=shape.table,
            names=", ".join(names),
            values=", ".join(values),
            given=", ".join(given),
            updates=", ".join(f'"{name}" = excluded."{name}"' for name in updated),
        )
        return statement.encode()

    def _sql(self, name: str) -> Any:
        return self._queries[name]


def _encoded(shape: Shape, rows: Sequence[CopiedRow]) -> str:
    names = list(shape.columns)
    return _encode(
        [
            {
                "id": row.id,
                "type": row.type,
                "occurred_at": row.occurred_at,
                "subject": row.subject,
                **dict(zip(names, row.values, strict=True)),
                **{odd_name(name): odd for name, odd in zip(names, row.odd, strict=True)},
            }
            for row in rows
        ]
    ).decode()


def _told(error: psycopg.Error) -> Exception:
    """What the driver's error is to the caller: of its words only the server's first line, which has no values."""
    if timed_out(error):
        return DatabaseTimeout("The engine took too long. Ask for less.")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return DatabaseUnavailable()
    return QueryFailed(f"the engine refused it: {error.diag.message_primary or type(error).__name__}")
