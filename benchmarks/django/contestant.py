"""One Django project in a process of its own, since Django has its settings once a process.

It serves requests in the process, without a server, and tells its own CPU time (`benchmarks.turns`). Which project it
is stands in its first argument: a key of `benchmarks.django.lines.LINES`.
"""

import asyncio
import os
import sys
from typing import Any, Final, cast

from psycopg.conninfo import conninfo_to_dict

import django
from benchmarks.django.lines import LINES, Line
from benchmarks.guard.traffic import request_scope, serve_one
from benchmarks.turns import act
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.db import connection, connections, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from workhorse import Service
from workhorse.asgi import ASGIApp, Scope
from workhorse.testing import service_client

__all__ = ["main", "urlpatterns"]

INSERT: Final = "INSERT INTO notes (text) VALUES (%s)"
BODY: Final = b'{"text":"a"}'
JSON: Final = cast("Any", JsonResponse)


async def read(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 - Django's signature
    """Answers, and does nothing else."""
    return cast("HttpResponse", JSON({"balance": "12.50", "currency": "EUR"}))


def write(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 - Django's signature
    """Writes a row on Django's connection."""
    with cast("Any", connection).cursor() as cursor:
        cursor.execute(INSERT, ["a"])
    return cast("HttpResponse", JSON({"written": 1}, status=200))


def write_atomic(request: HttpRequest) -> HttpResponse:
    """The same in a transaction by hand."""
    with cast("Any", transaction).atomic():
        return write(request)


route: Final[Any] = path
urlpatterns = [route("read", read), route("write", write), route("write-atomic", write_atomic)]


def configure(line: Line) -> None:
    """Give Django its settings."""
    url = conninfo_to_dict(os.environ["DJANGO_DATABASE_URL"])
    configured: Any = settings
    configured.configure(
        SECRET_KEY="of no use here",  # noqa: S106 - nothing is signed
        ALLOWED_HOSTS=["localhost"],
        ROOT_URLCONF=__name__,
        USE_TZ=True,
        LOGGING_CONFIG=None,
        INSTALLED_APPS=["django.contrib.sessions", *(["workhorse.integrations.django"] if line.workhorse else [])],
        SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
        SECURE_HSTS_SECONDS=31_536_000,
        MIDDLEWARE=list(line.middleware),
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": url["dbname"],
                "USER": url.get("user", ""),
                "PASSWORD": url.get("password", ""),
                "HOST": url.get("host", ""),
                "PORT": url.get("port", ""),
                "OPTIONS": {"pool": True},
            }
        },
        WORKHORSE={
            "database": {"url": os.environ["SERVICE_DATABASE_URL"]},
            "log": {"access": False, "level": "error"},
            "jobs": {"in_process": "off"},
        },
        WORKHORSE_UNITS=line.units,
    )
    django.setup(set_prefix=False)


def scope_of(line: Line) -> Scope:
    """One request."""
    body = [] if line.method == "GET" else [(b"content-type", b"application/json"), (b"content-length", b"12")]
    headers = [(b"host", b"localhost"), (b"accept", b"application/json"), (b"user-agent", b"bench"), *body]
    return request_scope(line.method, line.path, headers)


async def serve(app: ASGIApp, line: Line) -> None:
    """Serve what is asked for."""
    body = b"" if line.method == "GET" else BODY

    async def once() -> None:
        answer = await serve_one(app, scope_of(line), body)
        if answer.status != 200:
            raise SystemExit(f"{line.title}: {answer.status} {answer.body[:300]!r}")

    await act(once)


async def run(line: Line) -> None:
    """Serve the project, under a service where it is one of Workhorse's."""
    app: Any = get_asgi_application()
    if not line.workhorse:
        await serve(app, line)
        return
    service = Service(app)
    async with service_client(service):
        await serve(service, line)


def main() -> None:
    """Be the project that the first argument names."""
    line = LINES[sys.argv[1]]
    configure(line)
    asyncio.run(run(line))
    for one in cast("Any", connections).all(initialized_only=True):
        one.close()
        one.close_pool()


if __name__ == "__main__":
    # Under its own name, by which Django finds the URLs.
    from benchmarks.django import contestant

    contestant.main()
