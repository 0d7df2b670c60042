"""The same endpoint in FastAPI, with an app's own transaction and with a unit: each POST writes one row.

Every app is there whole, in a pool and with clients of its own, so that what is compared differs in nothing else.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from pydantic import BaseModel
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from workhorse.asgi import ASGIApp
from workhorse.contracts import Database
from workhorse.jobs import job
from workhorse.policy import Policy, PolicyTable
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.state.sqlalchemy import SQLAlchemyDatabase, SQLAlchemySyncDatabase, session, sync_session
from workhorse.units import UnitLayer, Work, sync_unit, unit

if TYPE_CHECKING:
    from psycopg import AsyncConnection, Connection

__all__ = ["APPS", "BARE", "NO_UNIT", "PATH", "App", "Wrote"]

PATH: Final = "/notes"
INSERT: Final = "INSERT INTO notes (text) VALUES (%s)"
POOL: Final = 2
EVENT: Final = "note.taken"

Opened = Callable[[str], AbstractAsyncContextManager[ASGIApp]]


@dataclass(frozen=True, slots=True)
class Wrote:
    """What one request leaves in the database."""

    notes: int = 1
    replies: int = 0
    events: int = 0
    jobs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """A line of the table."""

    title: str
    open: Opened
    """Is given the database's URL."""
    base: str | None = None
    """The app's own way, which a unit is compared with."""
    wrote: Wrote = Wrote()


class Note(BaseModel):
    """The body of a request."""

    text: str


class Taken(BaseModel):
    """The reply."""

    text: str


class Base(DeclarativeBase):
    """The models."""


class Row(Base):
    """A note, as SQLAlchemy's own users declare one."""

    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


@job()
async def read_note(text: str) -> None:
    """Is enqueued, and never run."""


def fastapi(handler: Callable[..., object]) -> FastAPI:
    """An app of one route."""
    app = FastAPI()
    app.post(PATH)(handler)
    return app


async def take_nothing(note: Note) -> Taken:
    """A handler that needs no database."""
    return Taken(text=note.text)


@asynccontextmanager
async def bare(_: str) -> AsyncGenerator[ASGIApp]:
    """No database."""
    yield fastapi(take_nothing)


@asynccontextmanager
async def by_psycopg(url: str) -> AsyncGenerator[ASGIApp]:
    """A transaction as psycopg's pages show it."""
    pool: AsyncConnectionPool[AsyncConnection[tuple[Any, ...]]] = AsyncConnectionPool(
        url, min_size=POOL, max_size=POOL, open=False
    )

    async def take(note: Note) -> Taken:
        async with pool.connection() as connection:
            await connection.execute(INSERT.encode(), (note.text,))
        return Taken(text=note.text)

    async with pool:
        await pool.wait()  # a connection that is made while round trips are counted would be one
        yield fastapi(take)


@asynccontextmanager
async def by_psycopg_in_threads(url: str) -> AsyncGenerator[ASGIApp]:
    """The same in a sync handler."""
    pool: ConnectionPool[Connection[tuple[Any, ...]]] = ConnectionPool(url, min_size=POOL, max_size=POOL, open=False)

    def take(note: Note) -> Taken:
        with pool.connection() as connection:
            connection.execute(INSERT.encode(), (note.text,))
        return Taken(text=note.text)

    with pool:
        await asyncio.to_thread(pool.wait)  # as above
        yield fastapi(take)


@asynccontextmanager
async def by_sqlalchemy(url: str) -> AsyncGenerator[ASGIApp]:
    """A session a request."""
    engine = create_async_engine(in_sqlalchemy(url), pool_size=POOL)
    sessions = async_sessionmaker(engine, expire_on_commit=False)

    async def take(note: Note) -> Taken:
        async with sessions.begin() as own:
            own.add(Row(text=note.text))
        return Taken(text=note.text)

    try:
        yield fastapi(take)
    finally:
        await engine.dispose()


@asynccontextmanager
async def by_sqlalchemy_in_threads(url: str) -> AsyncGenerator[ASGIApp]:
    """The same in a sync handler."""
    engine = create_engine(in_sqlalchemy(url), pool_size=POOL)
    sessions = sessionmaker(engine)

    def take(note: Note) -> Taken:
        with sessions.begin() as own:
            own.add(Row(text=note.text))
        return Taken(text=note.text)

    try:
        yield fastapi(take)
    finally:
        engine.dispose()


@asynccontextmanager
async def on_postgres(url: str) -> AsyncGenerator[Database]:
    """Workhorse's own pool."""
    database = PostgresDatabase(url, pool_min=POOL, pool_max=POOL)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def on_sqlalchemy(url: str) -> AsyncGenerator[Database]:
    """The app's async engine."""
    engine = create_async_engine(in_sqlalchemy(url), pool_size=POOL)
    try:
        yield SQLAlchemyDatabase(engine)
    finally:
        await engine.dispose()


@asynccontextmanager
async def on_sqlalchemy_in_threads(url: str) -> AsyncGenerator[Database]:
    """The app's sync engine."""
    engine = create_engine(in_sqlalchemy(url), pool_size=POOL)
    try:
        yield SQLAlchemySyncDatabase(engine)
    finally:
        engine.dispose()


def in_unit(
    handler: Callable[..., object],
    database: Callable[[str], AbstractAsyncContextManager[Database]] = on_postgres,
    *,
    idempotent: bool = False,
) -> Opened:
    """An app whose requests have units on such a database."""

    @asynccontextmanager
    async def opened(url: str) -> AsyncGenerator[ASGIApp]:
        async with database(url) as transactions:
            policies = PolicyTable([Policy(f"POST {PATH}", idempotent=idempotent)])
            yield UnitLayer(fastapi(handler), transactions, policies=policies)

    return opened


async def take(note: Note) -> Taken:
    """One statement."""
    await (await unit()).execute(INSERT, (note.text,))
    return Taken(text=note.text)


def taking(more: Callable[[Work, Note], Awaitable[object]]) -> Callable[..., object]:
    """One statement, and `more`."""

    async def handler(note: Note) -> Taken:
        work = await unit()
        await work.execute(INSERT, (note.text,))
        await more(work, note)
        return Taken(text=note.text)

    return handler


async def tell(work: Work, note: Note) -> None:
    """Put an event into the journal."""
    await work.emit(EVENT, subject=note.text)


async def ask_to_read(_: Work, note: Note) -> None:
    """Enqueue a job."""
    await read_note.enqueue(note.text)


async def add_row(note: Note) -> Taken:
    """Add a row to the unit's session."""
    session(await unit()).add(Row(text=note.text))
    return Taken(text=note.text)


def take_in_thread(note: Note) -> Taken:
    """One statement, from a sync handler."""
    sync_unit().execute(INSERT, (note.text,))
    return Taken(text=note.text)


def add_row_in_thread(note: Note) -> Taken:
    """Add a row to the unit's session, from a sync handler."""
    sync_session(sync_unit()).add(Row(text=note.text))
    return Taken(text=note.text)


def in_sqlalchemy(url: str) -> str:
    """The URL as SQLAlchemy wants it, with the driver in its scheme."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


BARE: Final = "bare"
NO_UNIT: Final = "no unit"
APPS: Final[dict[str, App]] = {
    BARE: App(title="FastAPI, no database", open=bare, wrote=Wrote(notes=0)),
    NO_UNIT: App(title="  in Workhorse's layer, no unit opened", open=in_unit(take_nothing), base=BARE, wrote=Wrote(0)),
    "psycopg": App(title="psycopg, a transaction by hand", open=by_psycopg),
    "unit": App(title="  unit, one statement", open=in_unit(take), base="psycopg"),
    "unit+event": App(title="  unit, and an event", open=in_unit(taking(tell)), base="psycopg", wrote=Wrote(events=1)),
    "unit+job": App(title="  unit, and a job", open=in_unit(taking(ask_to_read)), base="psycopg", wrote=Wrote(jobs=1)),
    "unit+key": App(
        title="  unit, key claimed and reply kept",
        open=in_unit(take, idempotent=True),
        base="psycopg",
        wrote=Wrote(replies=1),
    ),
    "psycopg sync": App(title="psycopg in a sync handler", open=by_psycopg_in_threads),
    "sync unit": App(title="  sync unit, one statement", open=in_unit(take_in_thread), base="psycopg sync"),
    "sqlalchemy": App(title="SQLAlchemy, a session by hand", open=by_sqlalchemy),
    "sqlalchemy unit": App(title="  unit on its engine", open=in_unit(add_row, on_sqlalchemy), base="sqlalchemy"),
    "sqlalchemy sync": App(title="SQLAlchemy in a sync handler", open=by_sqlalchemy_in_threads),
    "sqlalchemy sync unit": App(
        title="  sync unit on its engine",
        open=in_unit(add_row_in_thread, on_sqlalchemy_in_threads),
        base="sqlalchemy sync",
    ),
}
