"""An app's own sessions on the unit's connection: one commit for its models, its events and the kept reply."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import create_engine, func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from tests.asgi_client import Seen, call
from tests.units.databases import Sql, layered, migrated, on, open_database, over_each_async_engine
from workhorse import unit
from workhorse.contracts import Query
from workhorse.errors import SettingsError, StartupError, UnitClosed, UnitError
from workhorse.state.sqlalchemy import SQLAlchemyDatabase, SQLAlchemySyncDatabase, session, sync_session
from workhorse.units import Unit, Work
from workhorse.units.threads import SyncWork, sync_unit

KEY = [("idempotency-key", "k")]
THREADS = "sqlalchemy in threads"


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(unique=True)


async def with_session(kind: str, url: str, script: Any) -> tuple[list[str], list[str]]:
    """Run `script(work, session)` in a unit. Returns the notes and the types of the events."""

    async def main(database: Any, sql: Sql) -> Any:
        async with Unit(database) as work:
            await script(work, session(work))
        return (
            [note for (note,) in sql("SELECT text FROM notes ORDER BY id")],
            [type_ for (type_,) in sql("SELECT type FROM workhorse.events ORDER BY id")],
        )

    return await on(kind, url, main, size=2)  # type: ignore[no-any-return]


@over_each_async_engine
def test_what_a_session_holds_is_flushed_and_committed_with_the_unit(kind: str, database_url: str) -> None:
    async def script(work: Work, orm: AsyncSession) -> None:
        orm.add(Note(text="not flushed"))
        assert session(work) is orm

    assert asyncio.run(with_session(kind, database_url, script)) == (["not flushed"], [])


@over_each_async_engine
def test_a_sessions_commit_is_harmless_and_commits_nothing_before_the_unit(kind: str, database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        async def existing_code(work: Work) -> None:
            orm = session(work)
            note = Note(text="committed by the app")
            orm.add(note)
            await orm.commit()
            assert note.id == 1
            assert sql("TABLE notes") == [], "it shows outside before the unit has committed"
            await work.emit("note.added", subject=str(note.id))
            orm.add(Note(text="another"))
            await orm.commit()
            if len(tries) == 0:
                tries.append(1)
                raise RuntimeError

        tries: list[int] = []
        with pytest.raises(RuntimeError):
            await Unit.run(database, existing_code)
        assert sql("TABLE notes") == sql("SELECT * FROM workhorse.events") == []
        async with Unit(database) as work:
            session(work).add(Note(text="the next unit"))
        assert sql("SELECT text FROM notes") == [("the next unit",)]

    asyncio.run(on(kind, database_url, script, size=1))


@over_each_async_engine
def test_a_sessions_rollback_undoes_what_followed_its_last_commit_with_the_events(kind: str, database_url: str) -> None:
    async def script(work: Work, orm: AsyncSession) -> None:
        await work.emit("before.all", subject="1")
        orm.add(Note(text="kept"))
        await orm.commit()
        await work.emit("kept.too", subject="2")
        orm.add(Note(text="kept"))
        await work.emit("undone", subject="3")
        with pytest.raises(IntegrityError):
            await orm.flush()
        await orm.rollback()
        assert await orm.scalar(select(func.count()).select_from(Note)) == 1
        orm.add(Note(text="after"))

    notes, events = asyncio.run(with_session(kind, database_url, script))
    assert (notes, events) == (["kept", "after"], ["before.all", "kept.too"])


@over_each_async_engine
def test_nested_blocks_are_savepoints_of_one_transaction(kind: str, database_url: str) -> None:
    async def script(work: Work, orm: AsyncSession) -> None:
        orm.add(Note(text="outer"))
        async with orm.begin_nested() as block:
            orm.add(Note(text="inner"))
            await orm.flush()
            await work.emit("inner", subject="1")
            await block.rollback()
        async with work.savepoint():
            orm.add(Note(text="work's own block"))
            await work.emit("block", subject="1")
        await work.execute("INSERT INTO notes (text) VALUES (%(text)s)", {"text": "plain"})

    notes, events = asyncio.run(with_session(kind, database_url, script))
    assert (notes, events) == (["outer", "work's own block", "plain"], ["block"])


@over_each_async_engine
@pytest.mark.parametrize("end", ["connection.commit", "the transaction's commit", "text"])
def test_nobody_else_ends_the_transaction(kind: str, end: str, database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        async def ends_it(work: Work) -> None:
            connection = work.connection
            await connection.execute(text("INSERT INTO notes (text) VALUES ('half')"))
            if end == "connection.commit":
                with pytest.raises(UnitError, match="commits by itself"):
                    await connection.commit()
            elif end == "text":
                await session(work).execute(text("COMMIT"))
                with pytest.raises(UnitError, match="not the unit's"):
                    await session(work).execute(text("SELECT 1"))
            else:
                with pytest.raises(UnitError, match="commits by itself"):
                    await connection.get_transaction().commit()

        try:
            await Unit.run(database, ends_it)
        except UnitError as refused:
            assert end == "text" or "ended" in str(refused)  # noqa: PT017
        if end != "text":  # sent as text, the server has done it before anybody could know
            assert sql("TABLE notes") in ([], [(1, "half")])
        async with Unit(database) as work:
            await work.execute("INSERT INTO notes (text) VALUES ('next')")

    asyncio.run(on(kind, database_url, script, size=1))


@over_each_async_engine
def test_a_session_that_outlives_its_unit_is_refused(kind: str, database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        async with Unit(database) as work:
            orm = session(work)
            await orm.execute(text("SELECT 1"))
        with pytest.raises(UnitClosed):
            session(work)
        with pytest.raises(Exception, match="closed"):
            await orm.execute(text("INSERT INTO notes (text) VALUES ('late')"))
        await orm.close()
        assert sql("TABLE notes") == []

    asyncio.run(on(kind, database_url, script))


@over_each_async_engine
def test_a_flush_that_fails_at_the_end_is_no_success(kind: str, database_url: str) -> None:
    app = FastAPI()

    @app.post("/notes", status_code=201)
    async def add() -> str:
        work = await unit()
        session(work).add_all([Note(text="twice"), Note(text="twice")])
        await work.emit("note.added", subject="1")
        return "created"

    async def script(database: Any, sql: Sql) -> None:
        seen = await call(layered(app, database), "POST", "/notes", headers=KEY, body=b"{}")
        assert seen.status == 500
        for table in ("notes", "workhorse.events", "workhorse.replies"):
            assert sql(f"TABLE {table}") == []

    asyncio.run(on(kind, database_url, script, size=1))


@over_each_async_engine
def test_a_block_that_is_open_while_the_reply_leaves_commits_nothing(kind: str, database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        async def leaves_open(work: Work) -> None:
            orm = session(work)
            await orm.begin_nested()
            orm.add(Note(text="never"))

        with pytest.raises(UnitError, match="still open"):
            await Unit.run(database, leaves_open)
        assert sql("TABLE notes") == []

    asyncio.run(on(kind, database_url, script, size=1))


def test_the_apps_own_sessionmaker_is_used_with_its_options(database_url: str) -> None:
    class Own(AsyncSession):
        pass

    async def main() -> None:
        await migrated(database_url)
        engine = create_async_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
        database = SQLAlchemyDatabase(engine, session=async_sessionmaker(class_=Own, expire_on_commit=True))
        async with Unit(database) as work:
            orm = session(work)
            assert isinstance(orm, Own)
            assert orm.sync_session.expire_on_commit
        await engine.dispose()

    asyncio.run(main())


def test_engines_that_cannot_carry_a_unit_are_refused(database_url: str) -> None:
    async def main() -> None:
        with pytest.raises(SettingsError, match="driver is"):
            SQLAlchemySyncDatabase(create_engine("sqlite://"))
        rest = database_url.removeprefix("postgresql://")
        sync = create_engine(f"postgresql+psycopg://{rest}", isolation_level="AUTOCOMMIT")
        with pytest.raises(SettingsError, match="AUTOCOMMIT"):
            await SQLAlchemySyncDatabase(sync).begin()
        sync.dispose()
        for driver in ("psycopg", "asyncpg"):
            engine = create_async_engine(f"postgresql+{driver}://{rest}", isolation_level="AUTOCOMMIT")
            with pytest.raises(SettingsError, match="AUTOCOMMIT"):
                await SQLAlchemyDatabase(engine).begin()
            await engine.dispose()
        nowhere = create_async_engine("postgresql+psycopg://nobody:secret@127.0.0.1:1/none")
        with pytest.raises(StartupError) as refused:
            await SQLAlchemyDatabase(nowhere, acquire_timeout_seconds=2).open()
        assert "secret" not in str(refused.value)
        await nowhere.dispose()

    asyncio.run(main())


def test_a_unit_without_sqlalchemy_says_that_it_has_no_session(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        async with Unit(database) as work:
            with pytest.raises(UnitError, match="SQLAlchemyDatabase"):
                session(work)

    asyncio.run(on("pool", database_url, script))


def sync_app(runs: list[int]) -> FastAPI:
    app = FastAPI()

    @app.post("/notes", status_code=201)
    def add(mode: str = "") -> dict[str, int]:
        runs.append(1)
        work = sync_unit()
        orm = sync_session(work)
        note = Note(text=f"run {len(runs)}")
        orm.add(note)
        orm.commit()
        work.emit("note.added", subject=str(note.id))
        rows = work.execute("SELECT count(*) FROM notes WHERE text = %s", (note.text,))
        assert rows.fetchone() == (1,)
        assert rows.fetchall() == []
        if mode == "block":
            blocks(work, orm)
        if mode == "conflict" and len(runs) == 1:
            work.execute("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$")
        if mode == "crash":
            raise RuntimeError
        orm.add(Note(text=f"unflushed {len(runs)}"))
        return {"id": note.id}

    def blocks(work: SyncWork, orm: Session) -> None:
        with suppress(ZeroDivisionError), work.savepoint():
            orm.add(Note(text="undone"))
            work.emit("undone", subject="1")
            raise ZeroDivisionError
        with work.savepoint():
            work.emit("block", subject="1")

    return app


def post_sync(url: str, *paths: str) -> tuple[list[Seen], list[str], list[str]]:
    async def script(database: Any, sql: Sql) -> Any:
        service = layered(sync_app([]), database)
        seen = [await call(service, "POST", path, headers=KEY, body=b"{}") for path in paths]
        notes = [note for (note,) in sql("SELECT text FROM notes ORDER BY id")]
        return seen, notes, [type_ for (type_,) in sql("SELECT type FROM workhorse.events ORDER BY id")]

    return asyncio.run(on(THREADS, url, script, size=1))  # type: ignore[no-any-return]


def test_a_sync_handler_has_its_session_on_the_units_connection(database_url: str) -> None:
    seen, notes, events = post_sync(database_url, "/notes", "/notes")
    assert [one.status for one in seen] == [201, 201]
    assert seen[1].header("idempotent-replayed") == "true"
    assert notes == ["run 1", "unflushed 1"]
    assert events == ["note.added"]


def test_a_sync_handler_that_raises_undoes_what_its_session_committed(database_url: str) -> None:
    seen, notes, events = post_sync(database_url, "/notes?mode=crash")
    assert [one.status for one in seen] == [500]
    assert notes == events == []


def test_a_sync_handler_that_conflicts_is_run_again(database_url: str) -> None:
    seen, notes, events = post_sync(database_url, "/notes?mode=conflict")
    assert [one.status for one in seen] == [201]
    assert (notes, events) == (["run 2", "unflushed 2"], ["note.added"])


def test_a_sync_handler_has_savepoints(database_url: str) -> None:
    seen, notes, events = post_sync(database_url, "/notes?mode=block")
    assert [one.status for one in seen] == [201]
    assert (notes, events) == (["run 1", "unflushed 1"], ["note.added", "block"])


def test_a_sync_handler_may_use_any_database(database_url: str) -> None:
    app = FastAPI()

    @app.post("/notes")
    def add() -> int:
        work = sync_unit()
        work.execute("INSERT INTO notes (text) VALUES (%s)", ("from a thread",))
        work.emit("note.added", subject="1")
        work.after_commit(lambda: None)
        work.keep()
        work.flush()
        return int(work.execute("SELECT id FROM notes").fetchall()[0][0])

    async def script(database: Any, sql: Sql) -> None:
        seen = await call(layered(app, database), "POST", "/notes", body=b"{}")
        assert (seen.status, seen.json()) == (200, 1)
        assert sql("SELECT type FROM workhorse.events") == [("note.added",)]

    asyncio.run(on("pool", database_url, script))


def test_in_the_loops_own_thread_a_sync_unit_would_wait_for_itself(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        async with Unit(database):
            with pytest.raises(UnitError, match="await unit"):
                sync_unit()

    asyncio.run(on("pool", database_url, script))


@pytest.mark.parametrize("kind", ["sqlalchemy over psycopg", "sqlalchemy over asyncpg", THREADS])
def test_one_statement_runs_outside_of_units(kind: str, database_url: str) -> None:
    async def main() -> None:
        async with open_database(kind, database_url) as database:
            assert await database.run(Query("SELECT %s::int, %s::text", (1, "a"))) == [(1, "a")]
            assert await database.run(Query("SELECT 2"), repeatable=True) == [(2,)]

    asyncio.run(main())
