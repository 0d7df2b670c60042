"""Policies over Django's own users: who calls is told by its session, what they may by permissions and groups."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import httpx
import pytest

from tests.integrations.django.conftest import CONNECTIONS, Project
from tests.integrations.django.page_setup import CALL, OWN, PASSWORD, browse, enter, make_user, token_of, use_pages
from workhorse import Policy
from workhorse.errors import SettingsError, StoreUnavailable
from workhorse.identity.scheme import Credentials
from workhorse.integrations.django import DjangoUsers

POLICIES = [
    Policy("* /login", public=True),
    Policy("* /admin/{rest:path}", scope="staff"),
    Policy("* /page", scope="project.view_note"),
    Policy("* /whoami", scope="group:night_nurses"),
    Policy("* /upload", public=True),
]


@pytest.fixture
def pages(project: Project) -> Project:
    use_pages(project)
    CALL("migrate", verbosity=0)
    make_user("ada", superuser=True)
    make_user("bob")
    return project


async def meanwhile(step: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    """Do a step as another process would, on a connection of its own."""

    def alone() -> None:
        try:
            step(*args, **kwargs)
        finally:
            CONNECTIONS.close_all()

    await asyncio.to_thread(alone)


def give(name: str, *, permission: str = "", group: str = "") -> None:
    from django.contrib.auth.models import Group, Permission, User
    from django.contrib.contenttypes.models import ContentType

    from tests.integrations.django.project.models import Note

    user = cast("Any", User).objects.get(username=name)
    if permission:
        content = cast("Any", ContentType).objects.get_for_model(Note)
        one, _ = cast("Any", Permission).objects.get_or_create(codename=permission, content_type=content)
        user.user_permissions.add(one)
    if group:
        user.groups.add(cast("Any", Group).objects.get_or_create(name=group)[0])


def test_permissions_and_groups_are_the_scopes_of_policies(pages: Project) -> None:
    give("bob", permission="view_note")

    async def script(client: httpx.AsyncClient) -> list[int]:
        stranger = [(await client.get(path)).status_code for path in ("/page", "/whoami", "/admin/")]
        assert stranger == [401, 401, 401]
        await enter(client, "bob")
        known = [(await client.get(path)).status_code for path in ("/page", "/whoami", "/admin/")]
        await meanwhile(give, "bob", group="Night nurses".lower())
        return [*known, (await client.get("/whoami")).status_code]

    assert browse(pages, script, *POLICIES, identity=DjangoUsers()) == [200, 403, 403, 200]


def test_the_app_and_the_guard_know_the_same_user(pages: Project) -> None:
    give("ada", group="night nurses")

    async def script(client: httpx.AsyncClient) -> Any:
        await enter(client, "ada")
        return (await client.get("/whoami")).json()

    said = browse(pages, script, *POLICIES, identity=DjangoUsers())
    assert said == {"django": "ada", "principal": said["pk"], "username": "ada", "pk": said["pk"]}


def test_a_logout_a_new_password_and_a_closed_account_end_it_at_once(pages: Project) -> None:
    from django.contrib.auth.models import User

    give("bob", permission="view_note")

    def change(**values: Any) -> None:
        user = cast("Any", User).objects.get(username="bob")
        for name, value in values.items():
            setattr(user, name, value)
        user.save()

    def set_password(text: str) -> None:
        user = cast("Any", User).objects.get(username="bob")
        user.set_password(text)
        user.save()

    async def script(client: httpx.AsyncClient) -> list[int]:
        codes: list[int] = []

        async def look() -> None:
            codes.append((await client.get("/page")).status_code)

        await enter(client, "bob")
        await look()
        await meanwhile(change, is_active=False)
        await look()
        await meanwhile(change, is_active=True)
        await look()
        await meanwhile(set_password, "another one")
        await look()
        await enter(client, "bob", "another one")
        await look()
        from django.contrib.sessions.models import Session

        await meanwhile(cast("Any", Session).objects.all().delete)
        await look()
        return codes

    assert browse(pages, script, *POLICIES, identity=DjangoUsers()) == [200, 401, 200, 401, 200, 401]


def test_a_session_of_nobody_s_still_opens_the_public_pages(pages: Project) -> None:
    async def script(client: httpx.AsyncClient) -> list[int]:
        codes: list[int] = []
        for cookie in ("x" * 32, "", "\u00e9", "a; sessionid=b", "x" * 5000):
            headers = {b"cookie": f"sessionid={cookie}".encode("latin-1")}
            for path in ("/login", "/page"):
                reply = await client.get(path, headers=cast("Any", headers))
                codes.append(reply.status_code)
        return codes

    assert browse(pages, script, *POLICIES, identity=DjangoUsers()) == [200, 401] * 5


def test_two_sessions_in_one_request_are_nobody_s(pages: Project) -> None:
    """Also where Django, which takes any blank for one, finds a second where others find none."""
    give("bob", permission="view_note")

    async def script(client: httpx.AsyncClient) -> list[int]:
        await enter(client, "bob")
        own = f"sessionid={client.cookies['sessionid']}"
        client.cookies.clear()
        cookies = [own, f"{own}; sessionid=other", f"{own}; \u00a0sessionid=other", f"\u00a0{own}", f"a=b; {own}; c"]
        headers = [cast("Any", {b"cookie": cookie.encode("latin-1")}) for cookie in cookies]
        return [(await client.get("/page", headers=one)).status_code for one in headers]

    assert browse(pages, script, *POLICIES, identity=DjangoUsers()) == [200, 401, 401, 401, 200]


def test_a_person_is_led_to_the_login_and_a_script_is_told(pages: Project) -> None:
    async def script(client: httpx.AsyncClient) -> list[httpx.Response]:
        person = {"sec-fetch-mode": "navigate", "sec-fetch-site": "none", "accept": "text/html"}
        return [await client.get("/page?a=1&b=2", headers=person), await client.get("/page")]

    led, told = browse(pages, script, *POLICIES, identity=DjangoUsers())
    assert (led.status_code, led.headers["location"]) == (302, "/login?next=/page%3Fa%3D1%26b%3D2")
    assert (told.status_code, "www-authenticate" in told.headers) == (401, False)


def test_a_session_of_a_former_key_is_known_and_not_changed(pages: Project) -> None:
    give("bob", permission="view_note")
    sessions: list[Any] = []

    async def begin(client: httpx.AsyncClient) -> Any:
        await enter(client, "bob")
        return client.cookies["sessionid"]

    key = browse(pages, begin, *POLICIES, identity=DjangoUsers())
    pages.configure(SECRET_KEY="another one", SECRET_KEY_FALLBACKS=["only in this test"])

    async def ask() -> Any:
        users = DjangoUsers()
        try:
            return await users.verify(Credentials(cookie=f"sessionid={key}".encode()), 1_000.0)
        finally:
            await users.close()

    principal = asyncio.run(ask())
    sessions = pages.sql("SELECT session_key FROM django_session")
    assert (principal.may("project.view_note"), sessions) == (True, [(key,)])


def test_who_is_remembered_is_not_asked_for_again_until_then(pages: Project) -> None:
    give("bob", permission="view_note")

    async def begin(client: httpx.AsyncClient) -> Any:
        await enter(client, "bob")
        return client.cookies["sessionid"]

    cookie = Credentials(cookie=f"a=b; sessionid={browse(pages, begin)}".encode())

    async def ask() -> list[bool]:
        users = DjangoUsers(recall_seconds=5)
        try:
            before = users.recall(cookie, 1_000.0)
            await users.verify(cookie, 1_000.0)
            return [one is not None for one in (before, users.recall(cookie, 1_004.9), users.recall(cookie, 1_005.0))]
        finally:
            await users.close()

    assert asyncio.run(ask()) == [False, True, False]


def test_a_database_that_is_away_is_no_verdict(pages: Project) -> None:
    pages.set_database("default", HOST="127.0.0.1", PORT="1")

    async def ask() -> None:
        users = DjangoUsers()
        try:
            with pytest.raises(StoreUnavailable):
                await users.verify(Credentials(cookie=b"sessionid=" + b"x" * 32), 1_000.0)
        finally:
            await users.close()

    asyncio.run(ask())


def test_a_project_without_users_is_refused_at_its_start(project: Project) -> None:
    async def script(client: httpx.AsyncClient) -> None: ...

    with pytest.raises(Exception, match=r"DjangoUsers needs 'django.contrib.auth' and 'django.contrib.sessions'"):
        browse(project, script, identity=DjangoUsers())
    with pytest.raises(SettingsError, match="recall_seconds is 61"):
        DjangoUsers(recall_seconds=61)


def test_the_admin_adds_changes_and_deletes(pages: Project) -> None:
    async def script(client: httpx.AsyncClient) -> list[httpx.Response]:
        await enter(client, "ada")
        replies: list[httpx.Response] = []
        form = await client.get("/admin/project/note/add/")
        fields = {"text": "by the admin", "csrfmiddlewaretoken": token_of(form)}
        replies.append(await client.post("/admin/project/note/add/", data=fields, headers=OWN))
        (number,) = pages.sql("SELECT id FROM project_note")[0]
        again = await client.post("/admin/project/note/add/", data=fields, headers=OWN)  # its text is unique
        replies.append(again)
        fields["text"] = "changed"
        change = f"/admin/project/note/{number}/change/"
        replies.append(await client.post(change, data={**fields, "csrfmiddlewaretoken": "x" * 64}, headers=OWN))
        replies.append(await client.post(change, data=fields, headers=OWN))
        return replies

    added, twice, forged, changed = browse(pages, script, *POLICIES, identity=DjangoUsers())
    assert [added.status_code, twice.status_code, forged.status_code, changed.status_code] == [302, 200, 403, 302]
    assert "already exists" in twice.text
    assert pages.notes() == ["changed"]
    # What the admin wrote and its own log of it are one commit.
    assert pages.sql("SELECT count(*) FROM django_admin_log") == [(2,)]
    assert PASSWORD not in added.text
