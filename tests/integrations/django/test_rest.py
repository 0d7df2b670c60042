"""Django's REST framework and django-ninja under a service: their routes, and units around their views."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.integrations.django.conftest import APPS, Project
from tests.integrations.django.page_setup import CALL, CONTRIB, MIDDLEWARE, OWN, browse, enter, make_user, use_pages
from workhorse import Policy
from workhorse.errors import SettingsError
from workhorse.integrations.django import DjangoUsers
from workhorse.integrations.django.routes import templates_of
from workhorse.testing import service_client

POLICIES = [
    Policy("* /login", public=True),
    Policy("* /admin/{rest:path}", scope="staff"),
    Policy("GET /rest/", public=True),
    Policy("GET /rest/notes/", public=True),
    Policy("POST /rest/notes/", scope="project.add_note", idempotent=True),
    Policy("* /rest/notes/{pk}/", scope="project.change_note"),
    Policy("* /rest/refuses/", public=True),
    Policy("* /ninja/", public=True),
    Policy("GET /ninja/notes", public=True),
    Policy("POST /ninja/notes", public=True, idempotent=True),
    Policy("POST /ninja/async-notes", public=True, idempotent=True),
    Policy("GET /ninja/notes/{pk}", public=True),
]


@pytest.fixture
def rest(project: Project) -> Project:
    apps = ["workhorse.integrations.django", "tests.integrations.django.project", *CONTRIB, "rest_framework", "ninja"]
    use_pages(project, INSTALLED_APPS=apps, MIDDLEWARE=MIDDLEWARE, ROOT_URLCONF=f"{__package__}.project.rest_urls")
    assert APPS.is_installed("rest_framework")
    return project


@pytest.mark.parametrize(
    ("regex", "templates"),
    [
        (r"^notes/$", ["notes/"]),
        (r"^notes/(?P<pk>[^/.]+)/$", ["notes/{pk}/"]),
        (r"^(?P<year>[0-9]{4})-x\Z", ["{year}-x"]),
        (r"^a/(\d+)$", ["a/{argument2}"]),
        (r"^notes\.(?P<format>[a-z0-9]+)/?$", ["notes.{format}/", "notes.{format}"]),
        (r"^(?P<url>.*)$", []),
        (r"^([+-9]+)/$", []),  # the range has the slash
        (r"^a/(?P<s>[-\w]+)+$", []),
        (r"^a|b$", []),
        (r"^ab?c$", []),
    ],
)
def test_plain_regular_expressions_are_templates(regex: str, templates: list[str]) -> None:
    assert templates_of(regex) == templates


def test_each_route_of_both_frameworks_needs_its_policy(rest: Project) -> None:
    without = [policy for policy in POLICIES if policy.pattern not in {"GET /ninja/notes", "POST /rest/notes/"}]

    async def start() -> None:
        async with service_client(rest.service(*without, identity=DjangoUsers())):
            pass

    with pytest.raises(Exception, match="every route needs a policy") as refused:
        asyncio.run(start())
    said = str(refused.value)
    assert "GET /ninja/notes  " in said
    assert "POST /rest/notes/  " in said
    assert "POST /ninja/notes" not in said


def test_a_policy_for_a_method_that_a_view_set_lacks_is_refused(rest: Project) -> None:
    service = rest.service(*POLICIES, Policy("DELETE /rest/refuses/", public=True), identity=DjangoUsers())
    with pytest.raises(SettingsError, match="has no route for the policies 'DELETE /rest/refuses/'"):
        service.controls()


def test_policies_scopes_and_units_of_the_rest_framework(rest: Project) -> None:
    CALL("migrate", verbosity=0)
    make_user("ada", superuser=True)
    make_user("bob")

    async def script(client: httpx.AsyncClient) -> list[Any]:
        body = {"text": "a"}
        stranger = await client.post("/rest/notes/", json=body)
        await enter(client, "bob")
        bob = await client.post("/rest/notes/", json=body, headers=OWN)
        client.cookies.clear()
        await enter(client, "ada")
        token = {"x-csrftoken": client.cookies["csrftoken"], "idempotency-key": "k", **OWN}
        made = [await client.post("/rest/notes/", json=body, headers=token) for _ in range(2)]
        again = await client.post("/rest/notes/", json=body, headers={**token, "idempotency-key": "other"})
        number = made[0].json()["id"]
        changed = await client.put(f"/rest/notes/{number}/", json={"text": "b"}, headers=token)
        refused = await client.post("/rest/refuses/", json=body, headers=token)
        listed = await client.get("/rest/notes/")
        return [stranger, bob, *made, again, changed, refused, listed]

    replies = browse(rest, script, *POLICIES, identity=DjangoUsers())
    assert [one.status_code for one in replies] == [401, 403, 201, 201, 400, 200, 409, 200]
    assert replies[3].headers["idempotent-replayed"] == "true"
    assert replies[6].json()["type"] == "urn:project:refused"
    assert [note["text"] for note in replies[7].json()] == ["b"]
    assert rest.events() == ["note.added"]


def test_units_of_ninja_sync_and_async(rest: Project) -> None:
    async def script(client: httpx.AsyncClient) -> list[Any]:
        replies: list[Any] = []
        for path in ("notes", "async-notes"):
            key = {"idempotency-key": path}
            replies += [await client.post(f"/ninja/{path}", json={"text": path}, headers=key) for _ in range(2)]
            replies.append(await client.post(f"/ninja/{path}", json={"text": f"{path} refused", "status": 400}))
            replies.append(await client.post(f"/ninja/{path}", json={"txt": 1}))
        return [*replies, await client.get("/ninja/notes"), await client.get("/ninja/notes/x")]

    replies = browse(rest, script, *POLICIES, identity=DjangoUsers())
    assert [one.status_code for one in replies] == [201, 201, 400, 422, 201, 201, 400, 422, 200, 404]
    assert replies[8].json() == ["notes", "async-notes"]
    assert rest.notes() == ["notes", "async-notes"]
    assert rest.events() == ["note.added"] * 2
