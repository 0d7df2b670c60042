"""A request's ORM writes, events, jobs and kept reply stand together, or none of them does."""

import asyncio
import warnings
from typing import Any

import httpx
import pytest

from tests.integrations.django.conftest import Project
from tests.integrations.django.serving import EVERYWHERE, post, serve
from workhorse.testing import service_client

KINDS = ["add", "add-async", "add-in-thread", "notes/", "async-notes/"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", [None, "k-1"], ids=["without a key", "with a key"])
def test_rows_events_jobs_and_the_reply_commit_together(project: Project, kind: str, key: str | None) -> None:
    project.configure(WORKHORSE={"log": {"access": False}, "jobs": {"in_process": "off"}})
    reply = serve(project, post(kind, key=key))
    assert (reply.status_code, reply.json()["text"]) == (201, "a")
    assert (project.notes(), project.events(), project.jobs()) == (["a"], ["note.added"], ["tell"])
    assert project.replies() == (0 if key is None else 1)
    transactions = "SELECT count(DISTINCT xmin) FROM (SELECT xmin::text FROM project_note UNION ALL"
    tables = " SELECT xmin::text FROM workhorse.events UNION ALL SELECT xmin::text FROM workhorse.jobs) AS rows"
    assert project.sql(transactions + tables) == [(1,)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_retried_key_gets_the_first_reply_byte_for_byte(project: Project, kind: str) -> None:
    async def twice(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [
            await post(kind, key="k")(client),
            await post(kind, key="k")(client),
            await post(kind, "b", "k")(client),
        ]

    first, second, other = serve(project, twice)
    assert (second.status_code, second.content) == (first.status_code, first.content)
    assert (first.headers.get("idempotent-replayed"), second.headers["idempotent-replayed"]) == (None, "true")
    assert other.status_code == 422
    assert (project.notes(), project.events()) == (["a"], ["note.added"])


def test_retries_at_once_across_services_write_once(project: Project) -> None:
    async def main() -> Any:
        async with (
            service_client(project.service(*EVERYWHERE)) as one,
            service_client(project.service(*EVERYWHERE)) as two,
        ):
            return await asyncio.gather(*(post("add", key="k")(client) for client in (one, two) * 5))

    replies: list[httpx.Response] = asyncio.run(main())
    assert {(reply.status_code, reply.content) for reply in replies} == {(201, replies[0].content)}
    assert project.notes() == ["a"]


@pytest.mark.parametrize(
    ("path", "status", "notes"),
    [
        ("status/201", 201, ["a"]),
        ("status/302", 302, ["a"]),
        ("status/400", 400, []),
        ("status/503", 503, []),
        ("status/409/keep", 409, ["a"]),
        ("status/500/keep", 500, ["a"]),
        ("refuses", 409, []),
        ("raises", 500, []),
        ("block-that-raises", 500, []),
    ],
)
@pytest.mark.parametrize("key", [None, "k"], ids=["without a key", "with a key"])
@pytest.mark.parametrize("atomic", [False, True], ids=["plain", "ATOMIC_REQUESTS"])
def test_the_status_decides(
    project: Project,
    path: str,
    status: int,
    notes: list[str],
    key: str | None,
    atomic: bool,  # noqa: FBT001
) -> None:
    project.set_database("default", ATOMIC_REQUESTS=atomic)
    reply = serve(project, post(path, key=key))
    assert (reply.status_code, project.notes()) == (status, notes)
    assert b"a secret" not in reply.content
    assert project.replies() == (1 if notes and key else 0)


def test_a_problem_that_a_view_raises_is_a_problem_document(project: Project) -> None:
    reply = serve(project, post("refuses"))
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["type"] == "urn:project:refused"


@pytest.mark.parametrize("atomic", [False, True], ids=["plain", "ATOMIC_REQUESTS"])
def test_blocks_of_a_view_are_savepoints_of_the_unit(project: Project, atomic: bool) -> None:  # noqa: FBT001
    project.set_database("default", ATOMIC_REQUESTS=atomic)
    assert serve(project, post("own-block", key="k")).status_code == 201
    assert project.notes() == ["before", "inside", "a"]
    assert project.events() == ["note.added"]


def test_a_view_that_knows_nothing_of_units_has_one(project: Project) -> None:
    async def requests(client: httpx.AsyncClient) -> Any:
        return [(await post("plain", key=key)(client)).status_code for key in ("1", "1", "2")]

    # The second is a retry; the third is another request for the same text, which is refused by the table.
    assert serve(project, requests) == [201, 201, 500]
    assert (project.notes(), project.replies()) == (["a"], 1)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("swallows", "its error was swallowed"),
        ("marks", "marked to be rolled back"),
        ("closes", "closed inside of the unit"),
        ("commits", "not the unit's"),
    ],
)
def test_what_cannot_be_committed_whole_is_not_said_to_have_been(
    project: Project, path: str, why: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    reply = serve(project, post(path, key="k"))
    assert reply.status_code == 500
    assert project.replies() == 0
    assert project.notes() == (["torn"] if path == "commits" else [])
    assert why in caplog.text + capfd.readouterr().out


def test_an_error_that_is_caught_around_a_block_leaves_the_unit_whole(project: Project) -> None:
    assert serve(project, post("catches", key="k")).status_code == 201
    assert project.notes() == ["once"]


def test_callbacks_of_on_commit_see_what_is_committed_before_the_reply_leaves(project: Project) -> None:
    assert serve(project, post("callbacks")).status_code == 201
    assert project.seen == ["sees 1"]


def test_a_callback_that_fails_changes_nothing_of_the_reply(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    async def twice(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [await post("failing-callback", key="k")(client) for _ in range(2)]

    first, second = serve(project, twice)
    assert (first.status_code, second.status_code, first.content) == (201, 201, second.content)
    assert (project.notes(), project.seen) == (["a"], ["called"])
    assert "a callback of transaction.on_commit failed; the commit stands" in caplog.text


def test_callbacks_of_what_is_undone_are_not_called(project: Project) -> None:
    assert serve(project, post("callback-of-what-is-undone")).status_code == 400
    assert project.seen == []


def test_a_stream_commits_before_its_first_byte(project: Project) -> None:
    async def twice(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [await post("streams-async", key="k")(client) for _ in range(2)]

    first, second = serve(project, twice)
    assert (first.status_code, first.text) == (200, "1 end")
    assert (second.status_code, second.json()["type"]) == (409, "urn:workhorse:problem:idempotent-reply-not-kept")


def test_a_sync_iterator_which_django_reads_before_it_sends_is_in_the_unit(project: Project) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "StreamingHttpResponse must consume")  # Django's word on it
        reply = serve(project, post("streams"))
    assert (reply.status_code, reply.text) == (200, "b 1 end")
    assert project.notes() == ["a", "b"]


def test_two_databases_are_two_transactions(project: Project) -> None:
    assert serve(project, post("two-databases", status=400)).status_code == 400
    assert (project.notes(), project.notes(other=True)) == ([], ["on the other"])


def test_units_may_run_on_another_database_than_the_default(project: Project) -> None:
    project.configure(WORKHORSE_DATABASE="other")
    assert serve(project, post("two-databases", status=201, key="k")).status_code == 201
    assert (project.notes(), project.notes(other=True)) == (["a"], ["on the other"])
    assert project.sql("SELECT count(*) FROM workhorse.replies", other=True) == [(1,)]


@pytest.mark.parametrize("path", ["late-unit", "late-unit-async"])
@pytest.mark.parametrize(("status", "notes"), [(200, ["late"]), (404, [])])
def test_a_safe_request_has_a_unit_if_it_asks_for_one(
    project: Project, path: str, status: int, notes: list[str]
) -> None:
    async def get(client: httpx.AsyncClient) -> int:
        return (await client.get(f"/{path}", params={"status": status})).status_code

    assert serve(project, get) == status
    assert project.notes() == notes


def test_a_unit_that_would_outlive_a_block_is_refused(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    async def get(client: httpx.AsyncClient) -> int:
        return (await client.get("/unit-inside-block")).status_code

    assert serve(project, get) == 500
    assert "inside of an atomic() block that is older than the unit" in caplog.text
    caplog.clear()
    project.configure(WORKHORSE_UNITS="every")
    assert serve(project, get) == 200


@pytest.mark.parametrize("path", ["savepoints", "savepoints-async"])
def test_savepoints_of_the_unit_are_blocks_of_django(project: Project, path: str) -> None:
    reply = serve(project, post(path))
    assert (reply.text, project.notes()) == ("('kept',)", ["kept"])


def test_a_view_may_opt_out_as_of_atomic_requests(project: Project) -> None:
    assert serve(project, post("opted-out")).status_code == 400
    assert project.notes() == ["a"]


def test_a_request_without_a_unit_opens_no_transaction(project: Project) -> None:
    async def get(client: httpx.AsyncClient) -> Any:
        return (await client.get("/notes/")).json()

    project.sql("INSERT INTO project_note (text) VALUES ('there')")
    assert serve(project, get) == {"notes": ["there"]}
