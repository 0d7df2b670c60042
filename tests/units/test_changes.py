"""Rows before and after: recorded with the unit that writes them, or not at all."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.asgi_client import call
from tests.units.databases import Sql, layered, on, over_each_async_engine
from workhorse import Audit, Policy, unit
from workhorse.errors import SettingsError
from workhorse.state.sqlalchemy import session, sync_session
from workhorse.units import Unit
from workhorse.units.threads import sync_unit

CHANGES = "SELECT subject, data FROM workhorse.events WHERE type = 'audit.changed' ORDER BY id"


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(unique=True)


class Other(Base):
    __tablename__ = "others"
    id: Mapped[int] = mapped_column(primary_key=True)


AUDITED = Policy("POST /notes", audit=Audit("note", models=[Note]))


async def ran(database: Any, write: Any, policy: Policy = AUDITED) -> int:
    app = FastAPI()

    @app.post("/notes")
    async def notes() -> None:
        await write(session(await unit()))

    return (await call(layered(app, database, policy), "POST", "/notes")).status


@over_each_async_engine
def test_each_row_that_a_session_writes_is_told_before_and_after(kind: str, database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        sql("CREATE TABLE others (id int)")

        async def add(orm: Any) -> None:
            orm.add_all([Note(text="a"), Other(id=1)])

        async def edit(orm: Any) -> None:
            note = await orm.get(Note, 1)
            note.text = "b"

        async def remove(orm: Any) -> None:
            await orm.delete(await orm.get(Note, 1))

        for write in (add, edit, remove):
            assert await ran(database, write) == 200
        assert sql(CHANGES) == [
            ("Note:1", {"operation": "insert", "before": None, "after": {"id": 1, "text": "a"}}),
            ("Note:1", {"operation": "update", "before": {"text": "a"}, "after": {"text": "b"}}),
            ("Note:1", {"operation": "delete", "before": {"id": 1, "text": "b"}, "after": None}),
        ]
        written = sql("SELECT count(DISTINCT txid), count(*) FROM workhorse.events")
        assert written == [(3, 6)], "each change and the record of its request are of one transaction"

    asyncio.run(on(kind, database_url, script, size=2))


@over_each_async_engine
def test_what_is_undone_was_not_changed(kind: str, database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        async def write(orm: Any) -> None:
            block = await orm.begin_nested()
            orm.add(Note(text="undone"))
            await orm.flush()
            await block.rollback()
            orm.add(Note(text="stands"))

        assert await ran(database, write) == 200
        assert [data["after"]["text"] for _, data in sql(CHANGES)] == ["stands"]

    asyncio.run(on(kind, database_url, script, size=2))


@over_each_async_engine
def test_a_statement_over_many_rows_is_told_without_values(kind: str, database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        async def write(orm: Any) -> None:
            await orm.execute(update(Note).values(text="all"))

        assert await ran(database, write) == 200
        assert sql(CHANGES) == [("Note:*", {"operation": "bulk update", "before": None, "after": None})]

    asyncio.run(on(kind, database_url, script, size=2))


def test_a_session_in_a_thread_tells_too(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        app = FastAPI()

        @app.post("/notes")
        def notes() -> None:
            sync_session(sync_unit()).add(Note(text="a"))

        assert (await call(layered(app, database, AUDITED), "POST", "/notes")).status == 200
        assert [subject for subject, _ in sql(CHANGES)] == ["Note:1"]

    asyncio.run(on("sqlalchemy in threads", database_url, script, size=2))


def test_a_change_that_is_said_tells_only_what_differs(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        async with Unit(database) as work:
            await work.changed("a:1", before={"limit": Decimal("1.50"), "name": "n"}, after={"limit": 2, "name": "n"})
            await work.changed("a:2", after={"text": "x\0", "obj": object, "big": "y"})
            await work.changed("a:3", before={"big": "y" * 70_000})
            with pytest.raises(ValueError, match="neither"):
                await work.changed("a:4")
        first, second, third = [data for _, data in sql(CHANGES)]
        assert first == {"operation": "update", "before": {"limit": "1.50"}, "after": {"limit": 2}}
        assert second["after"]["text"] == "x\ufffd"
        assert third == {"operation": "delete", "before": None, "after": None, "too_large": ["big"]}

    asyncio.run(on("pool", database_url, script))


def test_models_without_a_session_are_refused_at_once(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        with pytest.raises(SettingsError, match=r"work\.changed"):
            layered(FastAPI(), database, AUDITED)

    asyncio.run(on("pool", database_url, script))
