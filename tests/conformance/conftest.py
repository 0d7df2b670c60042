"""Every app of the suite, served bare, in a `Guard` alone and in a `Service`: started once, and asked by all tests."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import anyio
import psycopg
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from tests.conformance.cases import CASES, Case
from tests.conformance.contract import Book
from tests.conformance.wire import Server, serving
from workhorse import Policy, Service
from workhorse.asgi import ASGIApp
from workhorse.bridge.host import TrioHost
from workhorse.embedded import Attachment, drop_database, fresh_database
from workhorse.guard import Guard
from workhorse.settings import GuardSettings, load_settings

T = TypeVar("T")


@dataclass
class Standing:
    """One app, served in one way."""

    way: str
    server: Server
    book: Book

    async def told(self, note: str, seconds: float = 5) -> bool:
        """Wait until the app has noted this, and forget it."""
        with anyio.move_on_after(seconds):
            while note not in self.book.notes:
                await anyio.sleep(0.01)
        if note not in self.book.notes:
            return False
        self.book.notes.remove(note)
        return True


@dataclass
class Running:
    """One app, served in all ways."""

    case: Case
    portal: BlockingPortal
    standing: list[Standing]
    database_url: str

    def everywhere(self, ask: Callable[[Standing], Awaitable[T]]) -> dict[str, T]:
        """Ask in each way."""
        return {one.way: self.portal.call(ask, one) for one in self.standing}

    def served(self, ask: Callable[[Standing], Awaitable[T]]) -> T:
        """Ask the service alone."""
        (service,) = (one for one in self.standing if one.way == "service")
        return self.portal.call(ask, service)

    def visits(self, kind: str) -> int:
        """How many of a kind have been committed."""
        with psycopg.connect(self.database_url) as connection:
            row = connection.execute("SELECT count(*) FROM visits WHERE kind = %s", (kind,)).fetchone()
        assert row is not None
        count: int = row[0]
        return count


def guard_around(case: Case, app: ASGIApp) -> ASGIApp:
    """The app in a Guard alone, which on Trio needs its host."""

    def around(inner: ASGIApp) -> ASGIApp:
        return Guard(inner, settings=GuardSettings())

    return around(app) if case.runtime == "asyncio" else TrioHost(app, around=around)


@asynccontextmanager
async def standing(case: Case, file: Path, url: str, folder: Path) -> AsyncIterator[list[Standing]]:
    settings = load_settings(folder, database={"url": url}, log={"access": False})
    bare, guarded, served = Book(file), Book(file), Book(file)
    policies = [Policy(f"POST {case.prefix}/visit", idempotent=True)]
    apps: dict[str, tuple[ASGIApp, Book]] = {
        "bare": (case.make(bare), bare),
        "guard": (guard_around(case, case.make(guarded)), guarded),
        "service": (Service(case.make(served), policies=policies, settings=settings), served),
    }
    async with AsyncExitStack() as stack:
        yield [Standing(way, await stack.enter_async_context(serving(app)), book) for way, (app, book) in apps.items()]


@pytest.fixture(scope="session", params=CASES, ids=lambda case: case.name)
def running(
    request: pytest.FixtureRequest, servers: Attachment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """One app after the other, each for all tests that need no more than it does."""
    case: Case = request.param
    folder = tmp_path_factory.mktemp(case.name)
    file = folder / "file.txt"
    file.write_bytes(b"0123456789" * 100)
    url = fresh_database(servers.database_url)
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE visits (kind text NOT NULL)")
    with (
        start_blocking_portal(case.runtime) as portal,
        portal.wrap_async_context_manager(standing(case, file, url, folder)) as all_ways,
    ):
        yield Running(case, portal, all_ways, url)
    drop_database(url)
