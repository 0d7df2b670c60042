"""Pages, forms and the admin of a Django project behind the guard."""

import asyncio
import re
from typing import Any, cast

import httpx
import pytest
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from django.template import Context, Engine

from tests.integrations.django.conftest import UNITS, Project
from workhorse import Policy
from workhorse.integrations.django.context_processors import csp
from workhorse.testing import service_client

CALL = cast("Any", call_command)
MIDDLEWARE = [
    UNITS,
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
CONTRIB = [f"django.contrib.{name}" for name in ("admin", "auth", "contenttypes", "sessions", "messages")]
PAGES = [Policy("* /{path:path}", public=True)]


def page(request: HttpRequest) -> HttpResponse:
    """A page with a script of its own if it is asked for one."""
    text = "<script nonce='{{ csp_nonce }}'></script>" if "script" in request.GET else "none"
    template = cast("Any", Engine)().from_string(text)
    return HttpResponse(template.render(cast("Any", Context)(csp(request))))


@pytest.fixture
def pages(project: Project) -> Project:
    """The project with Django's admin."""
    project.configure(
        INSTALLED_APPS=["workhorse.integrations.django", "tests.integrations.django.project", *CONTRIB],
        MIDDLEWARE=MIDDLEWARE,
        ROOT_URLCONF="tests.integrations.django.project.page_urls",
        SECURE_HSTS_SECONDS=3600,
        SECURE_SSL_REDIRECT=False,
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
    )
    return project


def browse(project: Project, script: Any) -> Any:
    async def main() -> Any:
        async with service_client(project.service(*PAGES)) as client:
            return await script(client)

    return asyncio.run(main())


def test_the_admin_and_its_forms_work_behind_the_guard(pages: Project) -> None:
    CALL("migrate", verbosity=0)
    from django.contrib.auth.models import User

    cast("Any", User).objects.create_superuser("ada", password="only in this test")

    async def script(client: httpx.AsyncClient) -> list[httpx.Response]:
        form = await client.get("/admin/login/")
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form.text)
        assert token is not None
        fields = {"username": "ada", "password": "only in this test", "next": "/admin/"}
        own = {"origin": "http://localhost", "sec-fetch-site": "same-origin"}
        without = await client.post("/admin/login/", data=fields, headers=own)
        wrong = {**fields, "password": "wrong", "csrfmiddlewaretoken": token[1]}
        refused = await client.post("/admin/login/", data=wrong, headers=own)
        right = {**fields, "csrfmiddlewaretoken": token[1]}
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
