"""Django's own test cases: inside of `TestCase` a unit is a savepoint of the test's transaction."""

import unittest
from typing import Any, ClassVar, cast

import pytest
from django.test import TestCase, TransactionTestCase

from tests.integrations.django.conftest import CONNECTIONS, Project
from tests.integrations.django.serving import EVERYWHERE, post
from workhorse.errors import NoUnit
from workhorse.testing import service_client
from workhorse.units import sync_unit

CASE = cast("type", TestCase)
TRANSACTION_CASE = cast("type", TransactionTestCase)
JSON = "application/json"


def run_case(case: type, *names: str) -> unittest.TestResult:
    """Run the tests of one case, as Django's runner would."""
    result = unittest.TestResult()
    unittest.TestSuite(case(name) for name in names).run(result)
    CONNECTIONS["default"].close()
    for _, trace in [*result.errors, *result.failures]:
        raise AssertionError(trace)
    return result


def in_test_case(base: type, isolated: bool) -> type:  # noqa: FBT001
    """A case whose tests are the same for both kinds; `isolated` ones are undone after each test."""
    from tests.integrations.django.project import views
    from tests.integrations.django.project.models import Note

    class Case(base):  # type: ignore[misc]
        client: Any
        async_client: Any
        available_apps: ClassVar = ["workhorse.integrations.django", "tests.integrations.django.project"]
        databases: ClassVar = {"default"}

        def add(self, path: str = "add", text: str = "a") -> Any:
            return self.client.post(f"/{path}", {"text": text}, content_type=JSON)

        def counted(self, table: str) -> int:
            with CONNECTIONS["default"].cursor() as cursor:
                cursor.execute(f"SELECT count(*) FROM workhorse.{table}")  # noqa: S608
                return int(cursor.fetchone()[0])

        def test_a_view_commits(self) -> None:
            assert self.add().status_code == 201
            assert [note.text for note in Note.objects.all()] == ["a"]
            assert (self.counted("events"), self.counted("jobs")) == (1, 1)

        def test_a_refusal_is_undone(self) -> None:
            assert self.add("status/400").status_code == 400
            assert self.add("refuses").status_code == 409
            assert self.add("status/409/keep", "kept").status_code == 409
            assert [note.text for note in Note.objects.all()] == ["kept"]

        def test_an_exception_is_raised_in_the_test_and_undone(self) -> None:
            with pytest.raises(RuntimeError, match="a secret"):
                self.add("raises")
            assert Note.objects.count() == 0

        def test_an_async_view_commits(self) -> None:
            assert self.add("add-async").status_code == 201
            assert (Note.objects.count(), self.counted("events")) == (1, 1)

        def test_callbacks(self) -> None:
            views.seen.clear()
            if isolated:
                with self.captureOnCommitCallbacks(execute=True) as callbacks:
                    assert self.add("callbacks").status_code == 201
                assert len(callbacks) == 1
            else:
                assert self.add("callbacks").status_code == 201
            assert views.seen == ["sees 1"]

        def test_there_is_no_unit_beside_a_request(self) -> None:
            self.add()
            with pytest.raises(NoUnit):
                sync_unit()

        async def test_the_async_client(self) -> None:
            for path in ("add", "add-async"):
                reply = await self.async_client.post(f"/{path}", {"text": path}, content_type=JSON)
                assert reply.status_code == 201
            assert (await self.async_client.post("/status/400", {"text": "x"}, content_type=JSON)).status_code == 400
            assert [note.text async for note in Note.objects.order_by("pk")] == ["add", "add-async"]

        async def test_the_service_in_the_test_s_transaction(self) -> None:
            async with service_client(PROJECT[0].service(*EVERYWHERE)) as client:
                replies = [await post("add", key="k")(client) for _ in range(2)]
                assert (await post("status/400", "b")(client)).status_code == 400
            assert [reply.status_code for reply in replies] == [201, 201]
            assert replies[1].headers["idempotent-replayed"] == "true"
            assert [note.text async for note in Note.objects.all()] == ["a"]

    return Case


PROJECT: list[Project] = []
NAMES = [
    "test_a_view_commits",
    "test_a_refusal_is_undone",
    "test_an_exception_is_raised_in_the_test_and_undone",
    "test_an_async_view_commits",
    "test_callbacks",
    "test_there_is_no_unit_beside_a_request",
    "test_the_async_client",
    "test_the_service_in_the_test_s_transaction",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["TestCase", "TransactionTestCase"])
def test_a_case_of_django(project: Project, kind: str, name: str) -> None:
    PROJECT[:] = [project]
    project.configure(WORKHORSE={"log": {"access": False}, "jobs": {"in_process": "off"}})
    isolated = kind == "TestCase"
    case = in_test_case(CASE if isolated else TRANSACTION_CASE, isolated)
    assert run_case(case, name).testsRun == 1
    assert project.notes() == []  # a TestCase is undone, a TransactionTestCase empties its tables
    assert project.events() == [] or not isolated
