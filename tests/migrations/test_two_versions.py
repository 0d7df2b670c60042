"""Two versions of an app serve one database under load while a migration goes over it: nobody gets an error."""

import asyncio
import time
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastapi import FastAPI

from tests.asgi_client import call, running
from tests.migrations.kit import ask
from workhorse import Policy, Service, unit
from workhorse.migrations import Migrations
from workhorse.migrations.safety import lint
from workhorse.settings import Settings, load_settings
from workhorse.state.postgres.migrate import Patience, apply_migrations

FIRST = (
    "CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, text text NOT NULL);"
    "INSERT INTO notes (text) SELECT 'old' FROM generate_series(1, 4000)"
)
FILL = """-- workhorse: no transaction
-- workhorse: repeat until no rows
UPDATE notes SET kind = 'filled' WHERE id IN (SELECT id FROM notes WHERE kind IS NULL LIMIT 500)
"""
LATER = (
    "ALTER TABLE notes ADD COLUMN kind text",
    "-- workhorse: no transaction\nCREATE INDEX CONCURRENTLY notes_by_kind ON notes (kind)",
    "ALTER TABLE notes ALTER COLUMN kind SET DEFAULT 'plain'",
    FILL,
    "ALTER TABLE notes ADD CONSTRAINT kinds CHECK (kind IS NOT NULL) NOT VALID",
    "ALTER TABLE notes VALIDATE CONSTRAINT kinds",
)
OLD = Migrations.inline("app", FIRST)
NEW = Migrations.inline("app", FIRST, *LATER)
# A request may wait for one try of a lock, and no longer.
PATIENCE = Patience(lock_seconds=0.5, retry_seconds=15, deadline_seconds=20)


def version(migrations: Migrations, statement: str, columns: int, settings: Settings) -> Service:
    app = FastAPI()

    @app.post("/notes")
    async def take(text: str) -> int:
        cursor = await (await unit()).execute(statement, (text, "typed")[:columns])
        number: int = (await cursor.fetchone())[0]
        return number

    policies = [Policy("POST /notes", idempotent="required")]
    return Service(app, settings=settings, policies=policies, migrations=[migrations])


class Crowd:
    """Sends each note twice, with its key, until it is told to stop."""

    def __init__(self) -> None:
        self.keys = count()
        self.answers: dict[str, bytes] = {}
        self.failed: list[tuple[int, bytes]] = []
        self.slowest = 0.0
        self.stopped = False

    async def send(self, first: Service, second: Service | None = None) -> None:
        while not self.stopped:
            key = f"note-{next(self.keys)}"
            began = time.monotonic()
            seen = await self._post(first, key)
            again = await self._post(second or first, key)
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.failed += [(one.status, one.body) for one in (seen, again) if one.status != 200]
            assert seen.body == again.body, "a retried key had another answer"
            self.answers[key] = seen.body

    async def _post(self, service: Service, key: str) -> Any:
        return await call(service, "POST", f"/notes?text={key}", headers=[("idempotency-key", key)])


async def report(url: str, seconds: float) -> None:
    """A long transaction of the old version's, which no migration may wait behind with others behind it."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("SELECT count(*) FROM notes")
        await asyncio.sleep(seconds)
        await connection.rollback()


def test_the_migration_of_this_test_is_safe() -> None:
    assert [str(finding) for finding in lint([NEW])] == []


@pytest.mark.slow
def test_a_migration_under_two_versions_and_load_is_seen_by_nobody(database_url: str, tmp_path: Path) -> None:
    settings = load_settings(tmp_path, database={"url": database_url}, log={"access": False})
    crowd, said = Crowd(), list[str]()

    async def main() -> None:
        old = version(OLD, "INSERT INTO notes (text) VALUES (%s) RETURNING id", 1, settings)
        new = version(NEW, "INSERT INTO notes (text, kind) VALUES (%s, %s) RETURNING id", 2, settings)
        late = version(OLD, "INSERT INTO notes (text) VALUES (%s) RETURNING id", 1, settings)
        async with running(old):
            senders = [asyncio.create_task(crowd.send(old)) for _ in range(5)]
            reading = asyncio.create_task(report(database_url, 2))
            await asyncio.sleep(0.5)
            applied = await apply_migrations(database_url, [NEW], say=said.append, patience=PATIENCE)
            assert len(applied) == len(LATER)
            await reading
            # Both versions, a process of the old one that starts now, and retries that go from one to the other.
            async with running(new), running(late):
                senders += [asyncio.create_task(crowd.send(new, old)) for _ in range(3)]
                senders += [asyncio.create_task(crowd.send(late, new)) for _ in range(2)]
                await asyncio.sleep(1.5)
                crowd.stopped = True
                await asyncio.gather(*senders)

    asyncio.run(main())
    assert crowd.failed == []
    assert any("others hold a lock" in line for line in said), "the long report was not met"
    assert crowd.slowest < PATIENCE.lock_seconds * 2 + 2
    rows = ask(database_url, "SELECT text, id, kind FROM notes WHERE text <> 'old'")
    assert {text: str(number).encode() for text, number, _ in rows} == crowd.answers
    assert len(rows) == len(crowd.answers)
    assert {kind for *_, kind in rows} == {"filled", "plain", "typed"}
    assert ask(database_url, "SELECT count(*) FROM notes WHERE text = 'old' AND kind = 'filled'") == [(4000,)]
    assert ask(database_url, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'notes_by_kind'::regclass") == [
        (True,)
    ]
