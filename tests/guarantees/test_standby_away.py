"""With synchronous replication and no standby: nobody is told of what a failover may lose, whoever ends the wait.

One Postgres whose `synchronous_standby_names` names a standby that does not exist is enough for that: each COMMIT that
wrote something waits for it, and stands as soon as the setting is taken back.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI

from tests.asgi_client import Seen, call
from tests.guarantees.pair import OURS, Node, end_a_wait, without_standby
from tests.units.databases import KINDS, layered, migrated, open_database
from workhorse import Policy, unit
from workhorse.asgi import ASGIApp
from workhorse.batches import batched
from workhorse.contracts import Query
from workhorse.errors import DatabaseUnavailable
from workhorse.units import Work

pytestmark = pytest.mark.slow
over_all = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    node = Node(tmp_path_factory.mktemp("alone") / "p")
    try:
        node.make()
        node.start()
        asyncio.run(migrated(node.url))
        yield node
    finally:
        node.kill()


@asynccontextmanager
async def shop(kind: str, node: Node) -> AsyncIterator[tuple[ASGIApp, Any]]:
    """An app on a database that does not wait long."""
    app = FastAPI(openapi_url=None)

    @app.post("/notes", status_code=201)
    async def add(text: str) -> str:
        await (await unit()).execute("INSERT INTO notes (text) VALUES (%s)", (text,))
        return text

    @batched
    async def together(work: Work, texts: Sequence[str]) -> list[str]:
        for text in texts:
            await work.execute("INSERT INTO notes (text) VALUES (%s)", (text,))
        return list(texts)

    @app.post("/together", status_code=201)
    async def add_together(text: str) -> str:
        return await together(text)

    policies = [Policy("POST /notes", idempotent=True), Policy("POST /together", idempotent=True, batched=True)]
    node.ask("TRUNCATE notes, workhorse.replies")
    async with open_database(kind, node.url, size=3, statement_timeout_seconds=1) as database:
        database._patience = 1.5  # longer than the server itself waits for a key
        yield layered(app, database, *policies, wait_seconds=1), database


async def add(app: ASGIApp, path: str = "/notes") -> Seen:
    return await call(app, "POST", f"{path}?text=a", headers=[("idempotency-key", "a")])


def notes(node: Node) -> list[str]:
    return [text for (text,) in node.ask("SELECT text FROM notes")]


def problem(seen: Seen) -> tuple[int, str]:
    return seen.status, seen.json()["type"].rpartition(":")[2]


@over_all
def test_a_commit_that_is_waited_for_no_longer_is_not_seen_until_its_standby_has_it(kind: str, node: Node) -> None:
    async def main() -> None:
        async with shop(kind, node) as (app, _):
            with without_standby(node):
                assert problem(await add(app)) == (503, "outcome-unknown")
                assert problem(await add(app)) == (409, "idempotency-key-in-flight")
                assert notes(node) == []
            again = await add(app)
            assert (again.status, again.header("idempotent-replayed")) == (201, "true")
            assert notes(node) == ["a"]

    asyncio.run(main())


@over_all
def test_a_commit_whose_task_is_cancelled_is_not_seen_until_its_standby_has_it(kind: str, node: Node) -> None:
    async def main() -> None:
        async with shop(kind, node) as (app, _):
            with without_standby(node):
                request = asyncio.create_task(add(app))
                while not node.ask(OURS):
                    await asyncio.sleep(0.02)
                request.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await request
                await asyncio.sleep(0.2)
                assert notes(node) == []
            assert notes(node) == ["a"]

    asyncio.run(main())


@over_all
def test_a_wait_that_an_administrator_ends_is_no_success_and_its_replay_waits_anew(kind: str, node: Node) -> None:
    async def main() -> None:
        async with shop(kind, node) as (app, _):
            with without_standby(node):
                administrator = end_a_wait(node)
                assert problem(await add(app)) == (503, "outcome-unknown")
                administrator.join()
                assert notes(node) == ["a"], "the server shows what it may lose, and nothing can be done about that"
                assert problem(await add(app)) == (503, "outcome-unknown")
            again = await add(app)
            assert (again.status, again.header("idempotent-replayed")) == (201, "true")
            assert notes(node) == ["a"]

    asyncio.run(main())


def test_no_member_of_a_batch_is_told_of_a_kept_reply_that_its_standby_does_not_have(node: Node) -> None:
    async def main() -> None:
        async with shop("pool", node) as (app, _):
            with without_standby(node):
                administrator = end_a_wait(node)
                assert problem(await add(app, "/together")) == (503, "outcome-unknown")
                administrator.join()
                assert notes(node) == ["a"]
                assert problem(await add(app, "/together")) == (503, "outcome-unknown")
            again = await add(app, "/together")
            assert (again.status, again.header("idempotent-replayed")) == (201, "true")
            assert notes(node) == ["a"]

    asyncio.run(main())


def test_a_statement_that_commits_by_itself_is_not_ended_by_whoever_waits_for_it(node: Node) -> None:
    async def main() -> None:
        async with shop("pool", node) as (_, database):
            with without_standby(node):
                with pytest.raises(DatabaseUnavailable):
                    await database.run(Query("INSERT INTO notes (text) VALUES (%s)", ("a",)))
                assert notes(node) == []
            assert notes(node) == ["a"]

    asyncio.run(main())
