"""Error pages that read the database are made where the request is (https://code.djangoproject.com/ticket/36027)."""

import asyncio
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import httpx
import pytest
from django.http import HttpRequest, HttpResponse

from tests.integrations.django.conftest import CONNECTIONS, Project
from tests.integrations.django.serving import post, serve
from workhorse import Policy

ANYTHING = Policy("* /{path:path}")


@pytest.fixture
def pages(project: Project) -> Iterator[list[str]]:
    """Has the project's error pages read the database. Gives the names of the threads in which they did."""
    from tests.integrations.django.project.models import Note
    from tests.integrations.django.project.urls import urlpatterns

    threads: list[str] = []

    def page(status: int) -> Any:
        def handler(request: HttpRequest, **_: object) -> HttpResponse:
            threads.append(threading.current_thread().name)
            return HttpResponse(b"%d of %d" % (status, Note.objects.count()), status=status)

        return handler

    urls: Any = ModuleType("urls")
    urls.urlpatterns = urlpatterns
    urls.handler404, urls.handler500 = page(404), page(500)
    project.configure(ROOT_URLCONF=urls)
    yield threads
    CONNECTIONS.create_connection("default").close_pool()


def test_a_page_leaves_the_pool_its_connections(project: Project, pages: list[str]) -> None:
    project.set_database("default", OPTIONS={"pool": {"min_size": 1, "max_size": 1, "timeout": 2}})

    async def requests(client: httpx.AsyncClient) -> list[Any]:
        missing = await asyncio.gather(*(client.get(f"/nothing/{number}") for number in range(6)))
        return [*missing, await client.get("/notes/")]

    replies = serve(project, requests, ANYTHING)
    assert [(reply.status_code, reply.text) for reply in replies[:-1]] == [(404, "404 of 0")] * 6
    assert (replies[-1].status_code, replies[-1].json()) == (200, {"notes": []})
    assert len(pages) == 6


def test_a_page_reads_what_its_request_has_written(project: Project, pages: list[str]) -> None:
    async def requests(client: httpx.AsyncClient) -> Any:
        return await post("raises")(client)

    reply = serve(project, requests, ANYTHING)
    assert (reply.status_code, reply.text) == (500, "500 of 1")
    assert project.notes() == [], "which is undone with it"
    assert len(pages) == 1


def test_a_page_is_made_when_the_transaction_has_failed(project: Project, pages: list[str]) -> None:
    project.set_database("default", OPTIONS={"pool": {"min_size": 1, "max_size": 2, "timeout": 2}})

    async def requests(client: httpx.AsyncClient) -> list[Any]:
        first = await post("plain", "a")(client)
        again = [await post("plain", "a")(client) for _ in range(4)]  # breaks a UNIQUE
        return [first, *again, *await asyncio.gather(*(client.get("/notes/") for _ in range(2)))]

    first, *again, one, other = serve(project, requests, ANYTHING)
    assert first.status_code == 201
    assert [(reply.status_code, reply.text) for reply in again] == [(500, "500 of 1")] * 4
    assert one.json() == other.json() == {"notes": ["a"]}
    assert len(pages) == 4
