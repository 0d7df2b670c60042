"""Batched handlers in an app: each request has its own reply, key, events and errors, whoever shares its commit."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from tests.asgi_client import Seen, call
from workhorse import unit
from workhorse.batches import Kept, batched, on_behalf_of
from workhorse.contracts import Query
from workhorse.errors import Problem, UnitError
from workhorse.guard import Guard
from workhorse.integrations import adopt
from workhorse.integrations.fast_routes import fast_layer
from workhorse.migrations import WORKHORSE, Migrations
from workhorse.policy import Policy, PolicyTable
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.state.postgres.migrate import apply_migrations
from workhorse.units import UnitLayer, Work

NOTES = Migrations.inline("notes", "CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY, text text NOT NULL)")


class Note(BaseModel):
    text: str


class Written(BaseModel):
    id: int
    text: str


class Refused(Problem):
    status = 409
    title = "Refused"


class Desk:
    """An app with one batched route, and its database."""

    def __init__(self, database: PostgresDatabase, *, fast: bool) -> None:
        self.database = database
        self.batches: list[list[str]] = []
        app = FastAPI()

        @batched(lanes=1)
        async def write(work: Work, notes: Sequence[Note]) -> Sequence[Written | Problem | Kept]:
            self.batches.append([note.text for note in notes])
            fresh = [note.text for note in notes if "refuse" not in note.text]
            rows = await work.execute("INSERT INTO notes (text) SELECT unnest(%s::text[]) RETURNING id, text", (fresh,))
            ids = {text: number for number, text in await rows.fetchall()}
            for position, note in enumerate(notes):
                with on_behalf_of(position):
                    await work.emit("note.tried", subject=note.text)
            await asyncio.sleep(0.02)
            return [self.outcome(note.text, ids) for note in notes]

        @app.post("/notes", status_code=201)
        async def note(note: Note) -> Written:
            if note.text == "unit first":
                await unit()
            written = await write(note)
            if note.text == "breaks":
                raise ZeroDivisionError
            await (await unit()).emit("note.written", subject=written.text)
            return written

        adopt(app)
        policies = [Policy("POST /notes", idempotent=True, batched=True, fast=fast)]
        self.layer = UnitLayer(fast_layer(app, policies), database, policies=PolicyTable(policies))
        self.app = Guard(self.layer, access_lines=False)

    def outcome(self, text: str, ids: dict[str, int]) -> Any:
        if text == "refuse and keep":
            return Kept(Refused(f"in batch {len(self.batches)}"))
        return Refused(f"in batch {len(self.batches)}") if "refuse" in text else Written(id=ids[text], text=text)

    async def post(self, text: str, key: str | None = None, **more: Any) -> Seen:
        headers = [] if key is None else [("idempotency-key", key)]
        return await call(self.app, "POST", "/notes", headers=headers, as_json={"text": text}, **more)

    async def column(self, sql: str) -> list[Any]:
        return [row[0] for row in await self.database.run(Query(sql))]

    async def notes(self) -> list[str]:
        return await self.column("SELECT text FROM notes ORDER BY text")


@asynccontextmanager
async def desk(database_url: str, *, fast: bool) -> AsyncIterator[Desk]:
    await apply_migrations(database_url, [WORKHORSE, NOTES])
    database = PostgresDatabase(database_url)
    await database.open()
    try:
        async with asyncio.timeout(30):
            yield Desk(database, fast=fast)
    finally:
        await database.close()


@pytest.fixture(params=[False, True], ids=["by the framework", "fast"])
def fast(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_many_requests_share_few_commits_and_each_gets_its_own_reply(database_url: str, fast: bool) -> None:  # noqa: FBT001
    async def main() -> None:
        async with desk(database_url, fast=fast) as one:
            texts = [f"note {number}" for number in range(40)]
            replies = await asyncio.gather(*(one.post(text, text.replace(" ", "-")) for text in texts))
            assert {reply.status for reply in replies} == {201}
            assert [reply.json()["text"] for reply in replies] == texts
            assert len({reply.json()["id"] for reply in replies}) == 40
            assert len(one.batches) <= 5
            again = await asyncio.gather(*(one.post(text, text.replace(" ", "-")) for text in texts))
            assert [reply.body for reply in again] == [reply.body for reply in replies]
            assert {reply.header("idempotent-replayed") for reply in again} == {"true"}
            assert await one.notes() == sorted(texts)

    asyncio.run(main())


def test_one_key_sent_many_times_at_once_takes_effect_once(database_url: str, fast: bool) -> None:  # noqa: FBT001
    async def main() -> None:
        async with desk(database_url, fast=fast) as one:
            replies = await asyncio.gather(*(one.post("once", "the-key") for _ in range(10)))
            assert {reply.status for reply in replies} == {201}
            assert len({reply.body for reply in replies}) == 1
            assert await one.notes() == ["once"]
            other = await one.post("another", "the-key")
            assert other.status == 422

    asyncio.run(main())


def test_a_refusal_is_decided_anew_and_a_kept_one_is_not(database_url: str, fast: bool) -> None:  # noqa: FBT001
    async def main() -> None:
        async with desk(database_url, fast=fast) as one:
            replies = await asyncio.gather(
                one.post("refuse", "a"), one.post("refuse and keep", "b"), one.post("c", "c")
            )
            assert [reply.status for reply in replies] == [409, 409, 201]
            again = await asyncio.gather(one.post("refuse", "a"), one.post("refuse and keep", "b"))
            assert [reply.json()["detail"] for reply in again] == ["in batch 2", "in batch 1"]
            assert await one.notes() == ["c"]

    asyncio.run(main())


def test_a_handler_that_breaks_after_its_outcome_breaks_alone(database_url: str, fast: bool) -> None:  # noqa: FBT001
    async def main() -> None:
        async with desk(database_url, fast=fast) as one:
            texts = ["a", "breaks", "b"]
            replies = await asyncio.gather(*(one.post(text, text) for text in texts), return_exceptions=True)
            assert [reply.status for reply in replies if isinstance(reply, Seen)][::2] == [201, 201]
            assert await one.notes() == ["a", "b"]
            assert one.batches[0] == texts
            assert sorted(map(tuple, one.batches[1:])) == [("a",), ("b",)]
            assert await one.column("SELECT subject FROM workhorse.events ORDER BY type, subject") == ["a", "b"] * 2

    asyncio.run(main())


def test_events_of_a_batch_name_the_request_they_belong_to(database_url: str, fast: bool) -> None:  # noqa: FBT001
    async def main() -> None:
        async with desk(database_url, fast=fast) as one:
            replies = await asyncio.gather(*(one.post(text) for text in "abc"))
            for kind in ("note.tried", "note.written"):
                sql = f"SELECT request_id FROM workhorse.events WHERE type = '{kind}' ORDER BY subject"  # noqa: S608
                assert await one.column(sql) == [reply.header("x-request-id") for reply in replies]

    asyncio.run(main())


def test_a_unit_before_the_batch_is_refused_with_the_mend(database_url: str) -> None:
    async def main() -> None:
        async with desk(database_url, fast=False) as one:
            for key in ("a-key", None):
                headers = [("idempotency-key", key)] if key else []
                with pytest.raises(UnitError, match="batched"):
                    await call(one.layer, "POST", "/notes", headers=headers, as_json={"text": "unit first"})
            assert await one.notes() == []

    asyncio.run(main())


def test_a_dead_database_is_said_to_all(database_url: str, fast: bool) -> None:  # noqa: FBT001
    async def main() -> None:
        async with desk(database_url, fast=fast) as one:
            await one.database.close()
            replies = await asyncio.gather(*(one.post(text, text) for text in "abc"))
            assert [reply.status for reply in replies] == [503] * 3

    asyncio.run(main())
