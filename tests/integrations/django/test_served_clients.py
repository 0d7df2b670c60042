"""A project's own tests with a `Service` around the project: Django's clients, in the test's thread and transaction."""

import asyncio
import io
import json
import unittest
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, cast

import httpx
import pytest
from django.contrib.staticfiles.finders import get_finder
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse, JsonResponse
from django.test import Client, LiveServerTestCase, TestCase, TransactionTestCase, override_settings
from django.urls import path

from tests.integrations.django.conftest import CONNECTIONS, SETTINGS, Project
from tests.integrations.django.page_setup import CONTRIB
from tests.integrations.django.serving import EVERYWHERE
from workhorse.errors import SettingsError
from workhorse.testing.django import ServiceRunner, scope_of, served_clients

CASE = cast("type", TestCase)
TRANSACTION_CASE = cast("type", TransactionTestCase)
CLIENT = cast("Any", Client)
WSGI = cast("Any", WSGIHandler)
JSON = "application/json"


def run_case(project: Project, case: type, *names: str) -> None:
    result = unittest.TestResult()
    with served_clients(project.service(*EVERYWHERE)):
        unittest.TestSuite(case(name) for name in names).run(result)
    CONNECTIONS["default"].close()
    for _, trace in [*result.errors, *result.failures]:
        raise AssertionError(trace)


def served_case(base: type) -> type:
    from tests.integrations.django.project.models import Note

    class Case(base):  # type: ignore[misc]
        client: Any
        available_apps: ClassVar = ["workhorse.integrations.django", "tests.integrations.django.project"]
        databases: ClassVar = {"default"}

        def add(self, path: str = "add", **headers: str) -> Any:
            return self.client.post(f"/{path}", {"text": "a"}, content_type=JSON, headers=headers)

        def test_the_service_answers(self) -> None:
            response = self.client.get("/notes/")
            assert response.json() == {"notes": []}
            assert response.headers["X-Request-Id"]
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.resolver_match.func.view_class.__name__ == "Notes"

        def test_a_key_takes_effect_once(self) -> None:
            first, second = (self.add(**{"idempotency-key": "k"}) for _ in range(2))
            assert (first.status_code, second.status_code) == (201, 201)
            assert second.headers["Idempotent-Replayed"] == "true"
            assert second.json() == first.json()
            assert [note.text for note in Note.objects.all()] == ["a"]

        def test_the_guard_refuses(self) -> None:
            assert self.client.get("/notes/", headers={"host": "evil.example"}).status_code == 421
            assert self.client.post("/add", b"{", content_type=JSON, headers={"origin": "http://x"}).status_code == 403
            assert list(Note.objects.all()) == []

        def test_a_refusal_is_undone_and_an_exception_raised(self) -> None:
            assert self.add("status/400").status_code == 400
            with pytest.raises(RuntimeError, match="a secret"):
                self.add("raises")
            assert list(Note.objects.all()) == []

        def test_streams_and_heads(self) -> None:
            streamed = self.client.post("/streams", {"text": "a"}, content_type=JSON)
            assert (streamed.streaming, b"".join(streamed.streaming_content)) == (True, b"b 1 end")
            head = self.client.head("/notes/")
            assert (head.status_code, head.content) == (200, b"")

        def test_a_client_of_the_test_s_own(self) -> None:
            quiet = CLIENT(raise_request_exception=False)
            assert quiet.post("/raises", {"text": "a"}, content_type=JSON).status_code == 500

    return Case


NAMES = [
    "test_the_service_answers",
    "test_a_key_takes_effect_once",
    "test_the_guard_refuses",
    "test_a_refusal_is_undone_and_an_exception_raised",
    "test_streams_and_heads",
    "test_a_client_of_the_test_s_own",
]


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
@pytest.mark.parametrize("base", [CASE, TRANSACTION_CASE], ids=["TestCase", "TransactionTestCase"])
def test_clients_go_through_the_service(project: Project, base: type) -> None:
    project.configure(ALLOWED_HOSTS=["testserver"])
    run_case(project, served_case(base), *NAMES)
    assert type(CLIENT().handler).__call__.__module__ == "django.test.client", "after the block they are Django's"


def test_who_is_forced_on_a_client_of_the_rest_framework_is_the_caller(project: Project) -> None:
    project.configure(
        INSTALLED_APPS=["workhorse.integrations.django", *CONTRIB, "rest_framework"],
        ALLOWED_HOSTS=["testserver"],
    )
    from rest_framework.response import Response
    from rest_framework.test import APIClient
    from rest_framework.views import APIView

    class Me(APIView):  # type: ignore[misc]
        authentication_classes = ()
        permission_classes = ()

        def get(self, request: Any) -> Any:
            return cast("Any", Response)({"user": str(request.user)})

    urls: Any = ModuleType("urls")
    urls.urlpatterns = [cast("Any", path)("me", Me.as_view())]
    project.configure(ROOT_URLCONF=urls)
    client = APIClient()
    with served_clients(project.service()):
        assert client.get("/me").json() == {"user": "AnonymousUser"}
        client.force_authenticate("ann")
        assert client.get("/me").json() == {"user": "ann"}


def test_error_pages_see_the_rows_of_the_test(project: Project) -> None:
    from tests.integrations.django.project.models import Note

    class Case(CASE):  # type: ignore[misc, valid-type]
        client: Any

        def test_a_page(self) -> None:
            Note.objects.create(text="a")
            assert self.client.get("/nowhere").json() == {"notes": 1}

    urls: Any = ModuleType("urls")
    urls.urlpatterns = [cast("Any", path)("here", lambda _: JsonResponse({}))]
    urls.handler404 = lambda *_, **__: JsonResponse({"notes": Note.objects.count()}, status=404)
    project.configure(ROOT_URLCONF=urls, ALLOWED_HOSTS=["testserver"])
    run_case(project, Case, "test_a_page")


def test_middleware_is_that_of_the_settings_of_the_test(project: Project) -> None:
    class Case(CASE):  # type: ignore[misc, valid-type]
        client: Any

        def test_other_middleware(self) -> None:
            assert "vary" not in self.client.get("/notes/").headers
            locale = [*SETTINGS.MIDDLEWARE, "django.middleware.locale.LocaleMiddleware"]
            with override_settings(MIDDLEWARE=locale):
                assert self.client.get("/notes/").headers.get("content-language") is None
                assert CLIENT().get("/notes/").headers["content-language"] == "en"

    project.configure(ALLOWED_HOSTS=["testserver"])
    run_case(project, Case, "test_other_middleware")


def wsgi(
    project: Project, path: str, method: str = "GET", handler: Any = None, **environ: str
) -> tuple[str, Any, bytes]:
    """What WebTest and the REST framework's `RequestsClient` do: call Django's WSGI app."""
    told: list[Any] = []
    request = CLIENT()._base_environ(PATH_INFO=path, REQUEST_METHOD=method, **environ)
    reply = (handler or WSGI())(request, lambda *answer: told.extend(answer))
    body = b"".join(reply)
    getattr(reply, "close", str)()
    return told[0], dict(told[1]), body


def test_django_s_wsgi_app_goes_through_the_service(project: Project) -> None:
    project.configure(ALLOWED_HOSTS=["testserver"])
    with served_clients(project.service(*EVERYWHERE)):
        status, headers, body = wsgi(project, "/notes/")
        assert (status, json.loads(body)) == ("200 OK", {"notes": []})
        assert headers["X-Request-Id"]
        assert wsgi(project, "/notes/", HTTP_HOST="evil.example")[0] == "421 Misdirected Request"
        status, headers, body = wsgi(project, "/notes/", "HEAD")
        assert (status, headers["Content-Type"], body) == ("200 OK", "application/json", b"")
    assert "X-Request-Id" not in wsgi(project, "/notes/")[1], "after the block it is Django's"


def test_static_files_of_a_wsgi_app_are_not_the_service_s(project: Project, tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("a {}")
    project.configure(
        INSTALLED_APPS=["workhorse.integrations.django", "django.contrib.staticfiles"],
        STATICFILES_DIRS=[str(tmp_path)],
        STATIC_URL="/static/",
        DEBUG=True,
    )
    get_finder.cache_clear()
    with served_clients(project.service()):
        assert wsgi(project, "/static/a.css", handler=StaticFilesHandler(WSGI()))[2] == b"a {}"


def told_by_middleware(get_response: Any) -> Any:
    """A middleware that answers with what META says of the caller."""
    return lambda request: cast("Any", HttpResponse)(request.META.get("REMOTE_USER", "nobody"))


def test_each_client_has_the_middleware_and_the_environment_of_its_test(project: Project) -> None:
    project.configure(ALLOWED_HOSTS=["testserver"])
    with served_clients(project.service()):
        assert CLIENT().get("/notes/").json() == {"notes": []}
        with override_settings(MIDDLEWARE=[f"{__name__}.told_by_middleware"]):
            assert CLIENT().get("/notes/", REMOTE_USER="ann").content == b"ann"
            assert wsgi(project, "/notes/", REMOTE_USER="ben")[2] == b"ben"
            assert CLIENT(REMOTE_USER="").get("/notes/").content == b""
            assert CLIENT().get("/notes/").content == b"nobody"
        assert CLIENT().get("/notes/").json() == {"notes": []}


def test_a_loop_that_is_left_in_the_thread_of_the_test_is_no_hindrance(project: Project) -> None:
    async def as_below_playwright() -> Any:
        return CLIENT().get("/nowhere").status_code

    project.configure(ALLOWED_HOSTS=["testserver"])
    with served_clients(project.service()):
        assert asyncio.run(as_below_playwright()) == 404


def test_an_exception_reaches_the_test_when_django_lets_it_pass(project: Project) -> None:
    project.configure(DEBUG_PROPAGATE_EXCEPTIONS=True, ALLOWED_HOSTS=["testserver"])
    body = {"wsgi.input": io.BytesIO(b'{"text": "a"}'), "CONTENT_LENGTH": "13", "CONTENT_TYPE": JSON}
    with served_clients(project.service()), pytest.raises(RuntimeError, match="a secret"):
        wsgi(project, "/raises", "POST", **cast("dict[str, str]", body))
    assert project.notes() == []


def test_a_live_server_goes_through_the_service(project: Project) -> None:
    from tests.integrations.django.project.models import Note

    class Case(cast("type", LiveServerTestCase)):  # type: ignore[misc]
        available_apps: ClassVar = ["workhorse.integrations.django", "tests.integrations.django.project"]
        live_server_url: str

        def test_it(self) -> None:
            first = httpx.post(f"{self.live_server_url}/add", json={"text": "a"}, headers={"idempotency-key": "k"})
            again = httpx.post(f"{self.live_server_url}/add", json={"text": "a"}, headers={"idempotency-key": "k"})
            assert (first.status_code, again.headers["idempotent-replayed"]) == (201, "true")
            assert [note.text for note in Note.objects.all()] == ["a"]

    project.configure(STATIC_URL="/static/", MEDIA_URL="/media/", ALLOWED_HOSTS=["testserver"])
    run_case(project, Case, "test_it")


def test_a_runner_asks_for_the_service(project: Project) -> None:
    project.configure(WORKHORSE_SERVICE="ledger")
    with pytest.raises(SettingsError, match="WORKHORSE_SERVICE is 'ledger'; name the service"):
        ServiceRunner(verbosity=0).run_suite(unittest.TestSuite())


def test_a_request_is_as_a_server_reads_it_from_the_wire(project: Project) -> None:
    environ = CLIENT()._base_environ(
        PATH_INFO="/caf\xc3\xa9 a", QUERY_STRING="q=1", HTTP_X_A="1", CONTENT_TYPE="text/plain", CONTENT_LENGTH="2"
    )
    scope, _ = scope_of(environ)
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/café a", b"/caf%C3%A9%20a", b"q=1")
    assert {(b"x-a", b"1"), (b"host", b"testserver"), (b"content-length", b"2")} <= set(scope["headers"])
    assert not [value for name, value in scope["headers"] if name == b"cookie"]
