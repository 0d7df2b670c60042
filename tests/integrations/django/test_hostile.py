"""What goes wrong between a view, Django's connection and the server: nothing is done twice, and nothing by half."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async

from tests.integrations.django.conftest import CONNECTIONS, Project, database
from tests.integrations.django.serving import EVERYWHERE, post, serve
from workhorse import Policy
from workhorse.contracts import Query
from workhorse.errors import DatabaseUnavailable, SettingsError
from workhorse.integrations.django import DjangoDatabase
from workhorse.integrations.django.place import close_here
from workhorse.testing import FaultProxy, service_client
from workhorse.units import Unit, Work


def through_proxy(
    project: Project, script: Callable[[httpx.AsyncClient, FaultProxy], Any], **values: Any
) -> tuple[Any, FaultProxy]:
    """Run `script(client, proxy)` with Django's own connections, and no others, by way of a proxy."""

    async def main() -> tuple[Any, FaultProxy]:
        async with FaultProxy(project.url) as proxy:
            project.configure(
                DATABASES={"default": database(proxy.url, **values)},
                WORKHORSE={"log": {"access": False}, "database": {"url": project.url}},
            )
            async with service_client(project.service(*EVERYWHERE)) as client:
                return await script(client, proxy), proxy

    try:
        return asyncio.run(main())
    finally:
        if "pool" in values.get("OPTIONS", {}):
            CONNECTIONS.create_connection("default").close_pool()


@pytest.mark.parametrize("key", [None, "k"], ids=["without a key", "with a key"])
@pytest.mark.parametrize("atomic", [False, True], ids=["plain", "ATOMIC_REQUESTS"])
def test_a_request_that_loses_to_another_transaction_is_run_again(
    project: Project,
    key: str | None,
    atomic: bool,  # noqa: FBT001
) -> None:
    project.set_database("default", ATOMIC_REQUESTS=atomic)
    reply = serve(project, post("conflicts", key=key, times=2))
    assert (reply.status_code, project.notes()) == (201, ["a"])
    assert project.seen == ["run"] * 3


def test_a_request_that_keeps_losing_is_told_so(project: Project) -> None:
    reply = serve(project, post("conflicts", times=99))
    assert (reply.status_code, reply.json()["type"]) == (503, "urn:workhorse:problem:conflict")
    assert (project.notes(), len(project.seen)) == ([], 5)


@pytest.mark.parametrize("key", [None, "k"], ids=["without a key", "with a key"])
def test_a_request_that_loses_its_connection_is_run_again(project: Project, key: str | None) -> None:
    reply = serve(project, post("loses-connection", key=key))
    assert (reply.status_code, project.notes()) == (201, ["a"])


def test_a_service_that_stops_waits_for_the_connections_that_are_being_closed(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[object] = []

    def late(kept: object = None) -> None:
        time.sleep(0.3)  # as on a machine with much to do
        close_here(kept)
        closed.append(kept)

    monkeypatch.setattr("workhorse.integrations.django.place.close_here", late)
    assert serve(project, post("plain")).status_code == 201
    assert None in closed  # that of the whole thread, which is the last


def test_what_a_deferred_constraint_refuses_at_commit_is_an_error(project: Project) -> None:
    assert serve(project, post("deferred", author=8, key="k")).status_code == 500
    assert (project.sql("SELECT * FROM project_author"), project.replies()) == ([], 0)
    assert serve(project, post("deferred", author=7, key="k")).status_code == 201


@pytest.mark.parametrize("committed", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("path", ["add", "add-async"])
def test_a_link_that_breaks_around_the_commit_leaves_the_outcome_to_a_retry(
    project: Project,
    path: str,
    committed: bool,  # noqa: FBT001
) -> None:
    async def script(client: httpx.AsyncClient, proxy: FaultProxy) -> list[httpx.Response]:
        fault = proxy.cut_after_commit() if committed else proxy.cut_before_commit()
        first = await post(path, key="k")(client)
        assert fault.happened
        return [first, await post(path, key="k")(client)]

    (first, second), _ = through_proxy(project, script)
    assert (first.status_code, first.json()["type"]) == (503, "urn:workhorse:problem:outcome-unknown")
    assert (second.status_code, second.json()["text"]) == (201, "a")
    assert second.headers.get("idempotent-replayed") == ("true" if committed else None)
    assert (project.notes(), project.events()) == (["a"], ["note.added"])


def test_a_unit_costs_three_round_trips_beside_the_view_s_own(project: Project) -> None:
    async def script(client: httpx.AsyncClient, proxy: FaultProxy) -> int:
        await post("plain", "first", key="1")(client)
        before, commits = proxy.round_trips, proxy.commits
        await post("plain", "second", key="2")(client)
        assert proxy.commits - commits == 1
        return proxy.round_trips - before

    # The pool gives connections as they are; beside it, connecting costs Django some statements of its own.
    options = {"pool": {"min_size": 1, "max_size": 1}}
    round_trips, _ = through_proxy(project, script, OPTIONS=options)
    assert round_trips == 1 + 3  # BEGIN, the claim, and what is written last with COMMIT


@pytest.mark.parametrize("path", ["add", "add-async", "add-in-thread"])
def test_connections_of_a_pool_are_given_back_whatever_happens(project: Project, path: str) -> None:
    async def script(client: httpx.AsyncClient, proxy: FaultProxy) -> list[int]:
        statuses = [(await post(path, str(number), key=str(number))(client)).status_code for number in range(3)]
        statuses += [(await post(one)(client)).status_code for one in ("raises", "closes", "commits", "marks")]
        proxy.cut_after_commit()
        statuses += [(await post(path, "cut", key="cut")(client)).status_code]
        proxy.cut()
        statuses += [(await post(path, str(number), key=str(number))(client)).status_code for number in range(2, 5)]
        return statuses

    options = {"pool": {"min_size": 1, "max_size": 1, "timeout": 5}}
    statuses, _ = through_proxy(project, script, OPTIONS=options)
    assert statuses == [201, 201, 201, 500, 500, 500, 500, 503, 201, 201, 201]


@pytest.mark.parametrize("values", [{}, {"CONN_MAX_AGE": 600}, {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}])
def test_no_request_leaves_a_connection_behind(project: Project, values: dict[str, Any]) -> None:
    async def script(client: httpx.AsyncClient, proxy: FaultProxy) -> int:
        for path in ("add", "add", "raises", "closes", "commits", "add-async", "status/400", "notes/"):
            await post(path, key="k" + path)(client)
        await client.get("/notes/")
        for _ in range(100):  # a thread closes what it has left after its request
            if not proxy.connections:
                break
            await asyncio.sleep(0.05)
        return proxy.connections

    left, proxy = through_proxy(project, script, **values)
    assert (left, proxy.accepted > 0) == (0, True)


@pytest.mark.parametrize("path", ["slow-in-database", "slow"])
@pytest.mark.parametrize("key", [None, "k"], ids=["without a key", "with a key"])
def test_what_still_runs_in_the_thread_of_an_ended_request_can_write_no_more(
    project: Project, path: str, key: str | None
) -> None:
    begun = time.monotonic()
    policy = Policy(f"POST /{path}", idempotent=True, deadline=1.0)
    reply = serve(project, post(path, key=key), policy)
    assert reply.status_code >= 500
    assert time.monotonic() - begun < 20
    for _ in range(100):
        if path == "slow" or len(project.seen) == 2:
            break
        time.sleep(0.05)
    assert project.notes() == []
    assert len(project.seen) == (0 if path == "slow" else 2)


def test_a_client_that_goes_away_leaves_nothing(project: Project) -> None:
    async def requests(client: httpx.AsyncClient) -> None:
        sending = asyncio.create_task(post("slow", key="k")(client))
        await asyncio.sleep(1)
        sending.cancel()
        await asyncio.wait({sending})
        assert sending.cancelled()

    serve(project, requests)
    assert (project.notes(), project.replies()) == ([], 0)


def test_a_view_that_goes_on_when_its_client_has_gone_can_write_no_more(project: Project) -> None:
    async def main() -> None:
        service = project.service(*EVERYWHERE)
        async with service_client(service):
            scope = {
                "type": "http",
                "asgi": {"version": "3.0"},
                "http_version": "1.1",
                "method": "POST",
                "path": "/writes-later",
                "raw_path": b"/writes-later",
                "query_string": b"",
                "root_path": "",
                "scheme": "http",
                "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
                "client": ("127.0.0.1", 1),
                "server": ("127.0.0.1", 80),
            }
            messages = iter([{"type": "http.request", "body": b"{}", "more_body": False}])
            sent: list[Any] = []

            async def receive() -> Any:
                for message in messages:
                    return message
                while not project.seen:
                    await asyncio.sleep(0.02)
                return {"type": "http.disconnect"}

            async def send(message: Any) -> None:
                sent.append(message)

            await service(scope, receive, send)
            assert not [message for message in sent if message.get("status") == 200]
            await asyncio.sleep(2)  # for as long as the view may go on

    asyncio.run(main())
    assert (project.notes(), project.seen[0]) == ([], "begun")


def test_a_unit_that_is_rolled_back_under_a_running_view_takes_its_connection_away(project: Project) -> None:
    from tests.integrations.django.project.models import Note

    def write_later() -> str:
        Note.objects.create(text="before")
        time.sleep(1)
        try:
            Note.objects.create(text="by a zombie")
        except Exception as error:  # noqa: BLE001 - which one is the driver's matter
            return type(error).__name__
        return "written"

    async def main() -> str:
        db = DjangoDatabase()
        transaction, _ = await db.begin()
        writing = asyncio.create_task(sync_to_async(write_later)())
        await asyncio.sleep(0.3)
        await transaction.rollback()
        return await writing

    assert asyncio.run(main()) != "written"
    assert project.notes() == []


def test_more_requests_at_once_than_connections_are_all_served(project: Project) -> None:
    async def script(client: httpx.AsyncClient, proxy: FaultProxy) -> list[int]:
        sent = [post("add" if number % 2 else "add-async", str(number), key=str(number)) for number in range(40)]
        return [reply.status_code for reply in await asyncio.gather(*(send(client) for send in sent))]

    statuses, _ = through_proxy(project, script, OPTIONS={"pool": {"min_size": 1, "max_size": 3}})
    assert statuses == [201] * 40
    assert len(project.notes()) == 40


def test_a_server_that_is_away_is_said_to_be(project: Project) -> None:
    async def script(client: httpx.AsyncClient, proxy: FaultProxy) -> list[httpx.Response]:
        proxy.refuse()
        away = [await post("add", key=key)(client) for key in ("k", None)]
        proxy.heal()
        return [*away, await post("add", key="k")(client)]

    (first, second, third), _ = through_proxy(project, script)
    assert (first.status_code, first.json()["type"]) == (503, "urn:workhorse:problem:database-unavailable")
    assert (second.status_code, third.status_code) == (503, 201)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}, r"\['ENGINE'\] is 'django.db.backends.sqlite3'"),
        ({"ENGINE": "django.db.backends.dummy"}, "WORKHORSE_DATABASE"),
    ],
)
def test_other_backends_are_refused_by_the_setting_to_change(
    project: Project, values: dict[str, Any], why: str
) -> None:
    project.set_database("default", **values)
    with pytest.raises(SettingsError, match=why):
        project.service()


def test_a_key_that_is_not_in_databases_is_refused(project: Project) -> None:
    with pytest.raises(SettingsError, match="DATABASES has no 'ledger'; it has: default, other"):
        DjangoDatabase("ledger")


def test_units_of_scripts_are_on_the_connection_that_async_code_uses(project: Project) -> None:
    from tests.integrations.django.project.models import Note

    async def undone(_: Work) -> None:
        await Note.objects.acreate(text="undone")
        raise RuntimeError("undone")

    async def main() -> None:
        db = DjangoDatabase()
        await db.ping(deadline_seconds=5)
        async with Unit(db) as work:
            await Note.objects.acreate(text="outer")
            async with Unit(db, isolation="serializable") as inner:
                await Note.objects.acreate(text="inner")
                await inner.execute("SELECT 1")
                level = await (await inner.execute("SHOW transaction_isolation")).fetchone()
                assert level == ("serializable",)
            assert project.notes() == ["inner"]
            assert await Note.objects.acount() == 2
            await work.emit("note.added", subject="1")
        with pytest.raises(RuntimeError, match="undone"):
            await Unit.run(db, undone)
        assert [tuple(row) for row in await db.run(Query("SELECT 1 WHERE false"))] == []
        project.set_database("default", PORT=1, HOST="127.0.0.1")
        with pytest.raises(DatabaseUnavailable):
            await db.begin()

    asyncio.run(main())
    assert sorted(project.notes()) == ["inner", "outer"]
    assert project.events() == ["note.added"]
