"""Pages, forms and the admin of a Django project behind the guard."""

import re
from hashlib import sha256
from typing import Any, cast

import httpx
import pytest
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template import Context, Engine

from tests.integrations.django.conftest import Project
from tests.integrations.django.page_setup import CALL, OWN, PASSWORD, browse, make_user, token_of, use_pages
from workhorse.context import current_request
from workhorse.integrations.django.context_processors import csp


def page(request: HttpRequest) -> HttpResponse:
    """A page with a script of its own if it is asked for one."""
    text = "<script nonce='{{ csp_nonce }}'></script>" if "script" in request.GET else "none"
    template = cast("Any", Engine)().from_string(text)
    return HttpResponse(template.render(cast("Any", Context)(csp(request))))


def upload(request: HttpRequest) -> HttpResponse:
    """Takes a file that is larger than Django keeps in memory."""
    one = cast("Any", request).FILES["file"]
    digest = sha256()
    for chunk in one.chunks():
        digest.update(chunk)
    return HttpResponse(f"{one.name} {one.size} {digest.hexdigest()} {type(one).__name__}")


def whoami(request: HttpRequest) -> HttpResponse:
    """Whom Django takes for the user, and whom the guard takes for the caller."""
    user, principal = cast("Any", request).user, current_request().principal
    said = {"django": user.username, "pk": str(user.pk), "principal": principal.subject, **principal.claims}
    return cast("Any", JsonResponse)(said)


@pytest.fixture
def pages(project: Project) -> Project:
    """The project with Django's admin."""
    use_pages(project)
    return project


def test_the_admin_and_its_forms_work_behind_the_guard(pages: Project) -> None:
    CALL("migrate", verbosity=0)
    make_user("ada", superuser=True)

    async def script(client: httpx.AsyncClient) -> list[httpx.Response]:
        form = await client.get("/admin/login/")
        fields = {"username": "ada", "password": PASSWORD, "next": "/admin/"}
        own, token = OWN, token_of(form)
        without = await client.post("/admin/login/", data=fields, headers=own)
        wrong = {**fields, "password": "wrong", "csrfmiddlewaretoken": token}
        refused = await client.post("/admin/login/", data=wrong, headers=own)
        right = {**fields, "csrfmiddlewaretoken": token}
        foreign = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
        attacked = await client.post("/admin/login/", data=right, headers=foreign)
        entered = await client.post("/admin/login/", data=right, headers=own)
        return [without, refused, attacked, entered, await client.get("/admin/")]

    without, refused, attacked, entered, index = browse(pages, script)
    assert [without.status_code, attacked.status_code] == [403, 403]
    assert (refused.status_code, "Please enter the correct username" in refused.text) == (200, True)
    assert (entered.status_code, entered.headers["location"]) == (302, "/admin/")
    assert (index.status_code, "ada" in index.text.lower()) == (200, True)
    # The login's session and its log stand, because its reply commits.
    assert pages.sql("SELECT count(*) FROM django_session") == [(1,)]


def test_no_header_is_said_twice(pages: Project) -> None:
    async def script(client: httpx.AsyncClient) -> httpx.Response:
        return await client.get("/page")

    names = [name.lower() for name, _ in browse(pages, script).headers.multi_items()]
    once = {"x-frame-options", "x-content-type-options", "referrer-policy", "cross-origin-opener-policy"}
    assert {name: names.count(name) for name in once} == dict.fromkeys(once, 1)
    assert len(set(names)) == len(names)


def test_templates_have_the_nonce_of_the_page_s_policy(pages: Project) -> None:
    async def script(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [await client.get("/page", params=params) for params in ({"script": "1"}, {})]

    asked, plain = browse(pages, script)
    nonce = re.search(r"nonce='([\w-]+)'", asked.text)
    assert nonce is not None
    assert f"'nonce-{nonce[1]}'" in asked.headers["content-security-policy"]
    assert "nonce-" not in plain.headers["content-security-policy"]
