"""Two versions of an app serve one database under load while a migration goes over it: nobody gets an error."""

import asyncio
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastapi import FastAPI

from tests.asgi_client import call, running
from workhorse import Policy, Service, unit
from workhorse.migrations import Migrations
from workhorse.settings import Settings, load_settings
from workhorse.state.postgres.migrate import apply_migrations

FIRST = "CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, text text NOT NULL)"
LATER = (
    "ALTER TABLE notes ADD COLUMN kind text NOT NULL DEFAULT 'plain'",
    "-- workhorse: no transaction\nCREATE INDEX CONCURRENTLY notes_by_kind ON notes (kind)",
    "ALTER TABLE notes ADD CONSTRAINT kinds CHECK (kind <> '') NOT VALID",
    "ALTER TABLE notes VALIDATE CONSTRAINT kinds",
)


def version(statement: str, columns: int, settings: Settings) -> Service:
    app = FastAPI()

    @app.post("/notes")
    async def take(text: str) -> int:
        cursor = await (await unit()).execute(statement, (text, "typed")[:columns])
        number: int = (await cursor.fetchone())[0]
        return number

    return Service(app, settings=settings, policies=[Policy("POST /notes", idempotent="required")])


class Crowd:
    """Sends notes until it is told to stop."""

    def __init__(self) -> None:
        self.keys = count()
        self.answers: list[Any] = []
        self.stopped = False

    async def send(self, service: Service) -> None:
        while not self.stopped:
            headers = [("idempotency-key", f"note-{next(self.keys)}")]
            seen = await call(service, "POST", "/notes?text=hello", headers=headers)
            again = await call(service, "POST", "/notes?text=hello", headers=headers)
            assert seen.body == again.body
            self.answers.append((seen.status, seen.body))


@pytest.mark.slow
def test_a_migration_under_two_versions_and_load_is_seen_by_nobody(database_url: str, tmp_path: Path) -> None:
    settings = load_settings(tmp_path, database={"url": database_url}, log={"access": False})
    asyncio.run(apply_migrations(database_url, [Migrations.inline("app", FIRST)]))
    old = version("INSERT INTO notes (text) VALUES (%s) RETURNING id", 1, settings)
    new = version("INSERT INTO notes (text, kind) VALUES (%s, %s) RETURNING id", 2, settings)
    crowd = Crowd()

    async def main() -> None:
        async with running(old):
            senders = [asyncio.create_task(crowd.send(old)) for _ in range(6)]
            await asyncio.sleep(0.5)
            applied = await apply_migrations(database_url, [Migrations.inline("app", FIRST, *LATER)])
            assert len(applied) == len(LATER)
            async with running(new):
                senders += [asyncio.create_task(crowd.send(new)) for _ in range(6)]
                await asyncio.sleep(1.5)
                crowd.stopped = True
                await asyncio.gather(*senders)

    asyncio.run(main())
    assert {status for status, _ in crowd.answers} == {200}
    with psycopg.connect(database_url) as connection:
        kinds: dict[str, int] = dict(connection.execute("SELECT kind, count(*) FROM notes GROUP BY kind").fetchall())
    assert sum(kinds.values()) == len(crowd.answers)
    assert min(kinds["plain"], kinds["typed"]) > 20
