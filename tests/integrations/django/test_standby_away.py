"""Django's own connection under synchronous replication without a standby (see tests/guarantees)."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.guarantees.pair import Node, end_a_wait, without_standby
from tests.integrations.django.conftest import Project, database
from workhorse.errors import OutcomeUnknown
from workhorse.integrations.django import DjangoDatabase
from workhorse.units import Unit

pytestmark = pytest.mark.slow


@pytest.fixture
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    node = Node(tmp_path_factory.mktemp("alone") / "p")
    try:
        node.make()
        node.start()
        node.ask("CREATE TABLE notes (text text)")
        yield node
    finally:
        node.kill()


def test_nobody_is_told_of_a_commit_that_no_standby_has_nor_shown_one_that_was_given_up(
    node: Node, project: Project
) -> None:
    project.configure(DATABASES={"default": database(node.url)})

    async def add(text: str, *, patience: float) -> None:
        django = DjangoDatabase()
        django._patience = patience  # pyright: ignore[reportPrivateUsage]
        with pytest.raises(OutcomeUnknown):
            async with Unit(django) as work:
                await work.execute("INSERT INTO notes VALUES (%s)", (text,))

    with without_standby(node):
        administrator = end_a_wait(node)
        asyncio.run(add("ended by others", patience=30))
        administrator.join()
        asyncio.run(add("given up", patience=0.5))
        assert node.ask("TABLE notes") == [("ended by others",)]
    assert sorted(node.ask("TABLE notes")) == [("ended by others",), ("given up",)]
