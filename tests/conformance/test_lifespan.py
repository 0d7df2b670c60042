"""An app starts after the service's rooms and stops before them; one that fails at its start is not served."""

from pathlib import Path

import anyio
import pytest

from tests.conformance.cases import CASES, Case
from tests.conformance.conftest import guard_around
from tests.conformance.contract import Book
from tests.conformance.wire import StartFailed, serving
from workhorse import Service
from workhorse.settings import Settings


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_app_is_started_and_stopped_once(case: Case, settings: Settings, tmp_path: Path) -> None:
    async def main() -> None:
        for way in ("bare", "guard", "service"):
            book = Book(tmp_path)
            app = case.make(book)
            if way == "guard":
                app = guard_around(case, app)
            elif way == "service":
                app = Service(app, settings=settings)
            async with serving(app):
                assert book.notes == ["start"], way
            assert book.notes == ["start", "stop"], way

    anyio.run(main, backend=case.runtime)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_app_that_fails_at_its_start_is_not_served(case: Case, settings: Settings, tmp_path: Path) -> None:
    async def main() -> None:
        for way in ("bare", "guard", "service"):
            app = case.make(Book(tmp_path, fails_at_start=True))
            if way == "guard":
                app = guard_around(case, app)
            elif way == "service":
                app = Service(app, settings=settings)
            with pytest.raises((StartFailed, RuntimeError, ExceptionGroup)) as caught:
                async with serving(app):
                    pass
            if way == "service":
                assert isinstance(caught.value, StartFailed)
                assert "the app failed to start" in str(caught.value)

    anyio.run(main, backend=case.runtime)
