from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.embedded.kit import processes_of, wait_until
from workhorse.embedded import stop


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for servers of this test's own; afterwards nothing of them may be left."""
    folder = tmp_path / "servers"
    yield folder
    stop(folder)
    wait_until(lambda: not processes_of(folder))
