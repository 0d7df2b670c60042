"""The databases that a unit runs over, and a unit layer around an app without the rest of the service."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from workhorse.asgi import ASGIApp, Message, Receive, Reply, Scope, Send, send_reply
from workhorse.context import CURRENT, RequestContext
from workhorse.contracts import Database
from workhorse.integrations import adopt
from workhorse.migrations import WORKHORSE
from workhorse.policy import Policy, PolicyTable
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.state.postgres.migrate import apply_migrations
from workhorse.state.sqlalchemy import SQLAlchemyDatabase, SQLAlchemySyncDatabase
from workhorse.units import UnitLayer
from workhorse.units.asgi import UnitOptions

KINDS = ["pool", "sqlalchemy over psycopg", "sqlalchemy over asyncpg", "sqlalchemy in threads"]
over_each_database = pytest.mark.parametrize(
    "kind", [*KINDS[:2], *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[2:])]
)
over_each_async_engine = pytest.mark.parametrize("kind", KINDS[1:3])

Sql = Callable[..., list[tuple[Any, ...]]]


@asynccontextmanager
async def open_database(kind: str, url: str, *, size: int = 8, **options: Any) -> AsyncIterator[Any]:
    """A database of the kind, with so many connections."""
    rest, seconds = url.split("://", 1)[1], options.get("statement_timeout_seconds", 30)
    database: Any
    if kind == "pool":
        database = PostgresDatabase(url, pool_min=1, pool_max=size, **options)
        await database.open()
        try:
            yield database
        finally:
            await database.close()
        return
    pool = {"pool_size": size, "max_overflow": 0, "pool_timeout": 5}
    timeout = f"{int(seconds * 1000)}"
    if kind == "sqlalchemy in threads":
        engine = create_engine(
            f"postgresql+psycopg://{rest}", connect_args={"options": f"-c statement_timeout={timeout}"}, **pool
        )
        options.pop("acquire_timeout_seconds", None)
        database = SQLAlchemySyncDatabase(engine, **options)
        try:
            await database.open()
            yield database
        finally:
            engine.dispose()
        return
    asynchronous = (
        create_async_engine(
            f"postgresql+asyncpg://{rest}", connect_args={"server_settings": {"statement_timeout": timeout}}, **pool
        )
        if kind.endswith("asyncpg")
        else create_async_engine(
            f"postgresql+psycopg://{rest}", connect_args={"options": f"-c statement_timeout={timeout}"}, **pool
        )
    )
    database = SQLAlchemyDatabase(asynchronous, **options)
    try:
        await database.open()
        yield database
    finally:
        await asynchronous.dispose()


async def migrated(url: str) -> Sql:
    """Apply the migrations, make the table of notes, and return what asks the database itself."""
    await apply_migrations(url, [WORKHORSE])

    def ask(statement: str, *params: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), params)
            return cursor.fetchall() if cursor.description else []

    ask("CREATE TABLE notes (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, text text UNIQUE)")
    return ask


def layered(
    app: Any,
    database: Database,
    *policies: Policy,
    replica: Database | None = None,
    request: Callable[[], RequestContext] = RequestContext,
    **options: Any,
) -> ASGIApp:
    """A unit layer around the app, and around that just enough of a guard to make a request known."""
    adopt(app)
    table = PolicyTable(policies or [Policy("POST /notes", idempotent=True)])
    layer = UnitLayer(app, database, replica=replica, policies=table, options=UnitOptions(**options))

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        token = CURRENT.set(request())
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await layer(scope, receive, noting)
        except Exception:  # noqa: BLE001 - for the log; the client gets a bare 500
            if not started:
                await send_reply(Reply(status=500, headers=(), body=b""), send)
        finally:
            CURRENT.reset(token)

    return guarded


Script = Callable[[Any, Sql], Awaitable[Any]]


async def on(kind: str, url: str, script: Script, **options: Any) -> Any:
    """Run `script(database, sql)` on a migrated database of the kind."""
    sql = await migrated(url)
    async with open_database(kind, url, **options) as database:
        return await script(database, sql)
