"""A project with Django's admin, sessions and users, and a browser that enters it."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, cast

import httpx
from django.core.management import call_command

from tests.integrations.django.conftest import UNITS, Project
from workhorse import Policy
from workhorse.testing import service_client

__all__ = ["CALL", "CONTRIB", "MIDDLEWARE", "OWN", "PASSWORD", "browse", "enter", "make_user", "token_of", "use_pages"]

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
OWN = {"origin": "http://localhost", "sec-fetch-site": "same-origin"}
PASSWORD = "only in this test"
# Tests hash passwords; the hash that production takes would be most of their time.
HASHER = "django.contrib.auth.hashers.MD5PasswordHasher"


def use_pages(project: Project, **changes: Any) -> None:
    """Give the project its pages."""
    values: dict[str, Any] = {
        "INSTALLED_APPS": ["workhorse.integrations.django", "tests.integrations.django.project", *CONTRIB],
        "MIDDLEWARE": MIDDLEWARE,
        "ROOT_URLCONF": "tests.integrations.django.project.page_urls",
        "SECURE_HSTS_SECONDS": 3600,
        "SECURE_SSL_REDIRECT": False,
        "PASSWORD_HASHERS": [HASHER],
        "LOGIN_URL": "/login",
        "TEMPLATES": [
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
    }
    project.configure(**{**values, **changes})


def make_user(name: str, *, superuser: bool = False, **values: Any) -> Any:
    """A user with the password of all of them."""
    from django.contrib.auth.models import User

    make = User.objects.create_superuser if superuser else User.objects.create_user
    return cast("Any", make)(name, password=PASSWORD, **values)


def browse(
    project: Project, script: Callable[[httpx.AsyncClient], Awaitable[Any]], *policies: Policy, **options: Any
) -> Any:
    """Run `script(client)`, whose client keeps cookies as a browser does."""

    async def main() -> Any:
        service = project.service(*(policies or (Policy("* /{path:path}", public=True),)), **options)
        async with service_client(service) as client:
            return await script(client)

    return asyncio.run(main())


def token_of(page: httpx.Response) -> str:
    """The CSRF token in a page's form."""
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert token is not None, page.text
    return token[1]


async def enter(client: httpx.AsyncClient, name: str, password: str = PASSWORD) -> httpx.Response:
    """Log in by Django's own form."""
    form = await client.get("/login")
    fields = {"username": name, "password": password, "csrfmiddlewaretoken": token_of(form)}
    reply = await client.post("/login", data=fields, headers=OWN)
    assert reply.status_code == 302, reply.text
    return reply
