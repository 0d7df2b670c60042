"""Runs the tests that a Django project has with a `Service` around the project.

    TEST_RUNNER = "workhorse.testing.django.ServiceRunner"         # with `manage.py test`
    WORKHORSE_SERVICE = "shop.asgi:service"

    @pytest.fixture(autouse=True, scope="session")                 # with pytest-django
    def served() -> Iterator[None]:
        with served_clients(service):
            yield

Inside of the block a request of any `django.test.Client` goes through the service, in the test's own thread and in its
transaction, as Django's client would have sent it to the views. What comes back is Django's response (with its context
and templates) and on it the status, headers and cookies that the service sent. So do requests to Django's WSGI app,
which WebTest, live servers and the `RequestsClient` of Django REST framework send. The service is started and stopped
for each request, so that it holds no connection when Django deletes the test database; that costs some 50 ms.

What a test puts into META beside headers (`REMOTE_USER`) gets there, which no ASGI server would do.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from http import HTTPStatus
from http.cookies import SimpleCookie
from importlib import import_module
from typing import Any, Final, cast
from urllib.parse import quote

from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.core.signals import request_finished, request_started
from django.db import close_old_connections  # pyright: ignore[reportUnknownVariableType]
from django.http import HttpResponse
from django.test.client import ClientHandler, FakePayload
from django.test.runner import DiscoverRunner

from workhorse.asgi import ASGIApp, Message
from workhorse.errors import SettingsError
from workhorse.integrations.django.error_pages import stay_in_thread
from workhorse.testing.client import running

__all__ = ["ServiceRunner", "served_clients"]

# Django has no types.
CLIENT_HANDLER: Final = cast("Any", ClientHandler)
ASGI_HANDLER: Final = cast("Any", ASGIHandler)
WSGI_HANDLER: Final = cast("Any", WSGIHandler)
RESPONSE: Final = cast("Any", HttpResponse)
SIGNALS: Final = (cast("Any", request_started), cast("Any", request_finished))
CLOSE: Final = cast("Any", close_old_connections)
DJANGO_SETTINGS: Final = cast("Any", settings)
MIDDLEWARE: Final = ("_view_middleware", "_template_response_middleware", "_exception_middleware", "_middleware_chain")
"""What Django's handlers have loaded."""
KEPT: Final = "_workhorse_middleware"
"""Where a client's handler keeps that of async requests."""
PORTS: Final = {"http": "80", "https": "443"}


@dataclass(slots=True)
class _Exchange:
    """One request of a client, and what came of it."""

    handler: Any
    """The client's."""
    environ: dict[str, Any]
    request: Any = None
    response: Any = None
    """Django's own; None: the service answered in its stead."""
    error: Exception | None = None
    """What Django let pass, because of DEBUG_PROPAGATE_EXCEPTIONS."""
    start: Message = field(default_factory=dict[str, Any])
    body: bytearray = field(default_factory=bytearray)

    @property
    def sent(self) -> bytes:
        """The body as a client has it."""
        return b"" if self.environ["REQUEST_METHOD"] == "HEAD" else bytes(self.body)


EXCHANGE: Final[ContextVar[_Exchange | None]] = ContextVar("workhorse_django_exchange", default=None)


@contextmanager
def served_clients(service: ASGIApp) -> Generator[None]:
    """Send what `django.test.Client` is asked for through the service, during the block.

    `AsyncClient` is left as it is; async tests have `workhorse.testing.service_client`.

    Args:
        service: a `Service(get_asgi_application(), ...)`. Its hosts include `testserver`, which Django adds
            to ALLOWED_HOSTS.
    """
    # One after the other: a service runs once at a time.
    turn = threading.RLock()

    def call(handler: Any, environ: dict[str, Any]) -> Any:
        with turn:
            return _response(_serve(service, environ, handler))

    def call_wsgi(handler: Any, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if type(handler) is not WSGI_HANDLER:  # one of static files
            return before_wsgi(handler, environ, start_response)
        with turn:
            exchange = _serve(service, environ, handler)
        status = HTTPStatus(exchange.start["status"])
        headers = [
            (name.decode("latin-1").title(), value.decode("latin-1")) for name, value in exchange.start["headers"]
        ]
        start_response(f"{status.value} {status.phrase}", headers)
        return [exchange.sent]

    answer = ASGI_HANDLER.run_get_response

    async def remember(handler: Any, request: Any) -> Any:
        exchange = EXCHANGE.get()
        if exchange is None:
            return await answer(handler, request)
        await _use_middleware(handler, exchange.handler)
        exchange.request, exchange.error = request, None
        _prepare(request, exchange)
        try:
            exchange.response = await answer(handler, request)
        except Exception as error:
            exchange.error = error
            raise
        return exchange.response

    stay_in_thread()  # a project without our app has not done so
    before, before_wsgi = CLIENT_HANDLER.__call__, WSGI_HANDLER.__call__
    CLIENT_HANDLER.__call__, WSGI_HANDLER.__call__, ASGI_HANDLER.run_get_response = call, call_wsgi, remember
    try:
        yield
    finally:
        CLIENT_HANDLER.__call__, WSGI_HANDLER.__call__, ASGI_HANDLER.run_get_response = before, before_wsgi, answer


class ServiceRunner(DiscoverRunner):  # type: ignore[misc]  # Django has no types
    """Django's test runner, whose clients go through the service that WORKHORSE_SERVICE names.

    Raises:
        SettingsError: WORKHORSE_SERVICE names none.
    """

    def run_suite(self, suite: Any, **options: Any) -> Any:
        """Run the tests."""
        name: object = getattr(DJANGO_SETTINGS, "WORKHORSE_SERVICE", None)
        if not isinstance(name, str) or ":" not in name:
            raise SettingsError(f'WORKHORSE_SERVICE is {name!r}; name the service, as in "shop.asgi:service"')
        with served_clients(_found(name)):
            return cast("Any", super()).run_suite(suite, **options)


def _found(name: str) -> ASGIApp:
    """The service of this name."""
    module, _, attribute = name.partition(":")
    heard = [one for one in logging.Logger.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    heard = [one for one in heard if not one.disabled]
    found: ASGIApp = getattr(import_module(module), attribute)
    # To make an ASGI app sets Django up once more, which silences these where LOGGING disables existing loggers.
    for one in heard:
        one.disabled = False
    return found


async def _use_middleware(app: Any, client: Any) -> None:
    """Have the app run the middleware of the settings at the client's first request, as its own handler does."""
    kept: dict[str, Any] | None = getattr(client, KEPT, None)
    if kept is None:
        await sync_to_async(app.load_middleware)(is_async=True)
        kept = {name: getattr(app, name) for name in MIDDLEWARE}
        setattr(client, KEPT, kept)
    for name, value in kept.items():
        setattr(app, name, value)


def _prepare(request: Any, exchange: _Exchange) -> None:
    """Say of a request what a client's own handler would say of it."""
    handler = exchange.handler
    request._dont_enforce_csrf_checks = not getattr(handler, "enforce_csrf_checks", True)  # noqa: SLF001
    for name, value in exchange.environ.items():
        if "." not in name and not name.startswith("HTTP_"):  # what WSGI itself adds has dots
            request.META.setdefault(name, value)
    for name in ("user", "token"):  # `APIClient.force_authenticate` of Django REST framework
        if getattr(handler, f"_force_{name}", None) is not None:
            setattr(request, f"_force_auth_{name}", getattr(handler, f"_force_{name}"))


def _serve(service: ASGIApp, environ: dict[str, Any], handler: Any) -> _Exchange:
    exchange = _Exchange(handler, environ)
    scope, body = scope_of(environ)

    async def exchanged() -> None:
        """Inside of the service's lifespan."""
        unsent = [body]

        async def receive() -> Message:
            if unsent:
                return {"type": "http.request", "body": unsent.pop(), "more_body": False}
            return await _never()

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.start = message
            elif message["type"] == "http.response.body":
                exchange.body += message.get("body", b"")

        async with running(service):
            await service(scope, receive, send)

    token = EXCHANGE.set(exchange)
    # The test's connection stays open, as with Django's client.
    for signal in SIGNALS:
        signal.disconnect(CLOSE)
    # Playwright's sync API leaves its loop marked as running in the test's thread, in which nothing of it runs now.
    loop = asyncio._get_running_loop()  # noqa: SLF001 - asyncio has these two for those who write event loops
    asyncio._set_running_loop(None)  # noqa: SLF001
    try:
        async_to_sync(exchanged)()
    finally:
        asyncio._set_running_loop(loop)  # noqa: SLF001
        for signal in SIGNALS:
            signal.connect(CLOSE)
        EXCHANGE.reset(token)
    if exchange.error is not None:
        raise exchange.error
    return exchange


def scope_of(environ: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """A request as a server would have it from the wire, made of the WSGI environment of Django's client."""
    headers = [
        (name[5:].replace("_", "-").lower().encode("latin-1"), str(value).encode("latin-1"))
        for name, value in environ.items()
        if name.startswith("HTTP_") and (name != "HTTP_COOKIE" or value)
    ]
    headers += [
        (name.replace("_", "-").lower().encode(), str(environ[name]).encode("latin-1"))
        for name in ("CONTENT_TYPE", "CONTENT_LENGTH")
        if environ.get(name) not in {None, ""}
    ]
    scheme = environ.get("wsgi.url_scheme", "http")
    server, port = environ["SERVER_NAME"], str(environ["SERVER_PORT"])
    if "HTTP_HOST" not in environ:
        host = server if port == PORTS.get(scheme) else f"{server}:{port}"
        headers.append((b"host", host.encode("latin-1")))
    root = environ.get("SCRIPT_NAME", "").encode("latin-1")
    path = root + environ["PATH_INFO"].encode("latin-1")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": environ["REQUEST_METHOD"],
        "scheme": scheme,
        "path": path.decode(errors="replace"),
        "raw_path": quote(path, safe="/:@!$&'()*+,;=~").encode(),
        "query_string": environ.get("QUERY_STRING", "").encode("latin-1"),
        "root_path": root.decode(errors="replace"),
        "headers": headers,
        "client": (environ.get("REMOTE_ADDR") or "127.0.0.1", 0),
        "server": (server, int(port)),
        "state": {},
    }
    length, payload = int(environ.get("CONTENT_LENGTH") or 0), environ["wsgi.input"]
    # That of Django's client may be shorter than the test says, and a live server's never ends.
    return scope, payload.read() if length and isinstance(payload, FakePayload) else payload.read(length)


def _response(exchange: _Exchange) -> Any:
    """What the test is given: Django's response, with what was sent of it."""
    body = exchange.sent
    status = exchange.start["status"]
    response = exchange.response
    if response is None or response.status_code != status:
        response = RESPONSE(body, status=status)
    elif response.streaming:
        response.streaming_content = iter([body])
    elif response.content != body:
        response.content = body
    cookies: Any = SimpleCookie()
    for name in list(response.headers):
        del response.headers[name]
    for raw_name, raw_value in exchange.start["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if name.lower() == "set-cookie":
            cookies.load(value)
        else:
            response.headers[name] = value
    for name, morsel in cookies.items():
        if name not in response.cookies:
            response.cookies[name] = morsel
    response.wsgi_request = exchange.request if exchange.request is not None else _unseen(exchange.environ)
    return response


def _unseen(environ: dict[str, Any]) -> Any:
    """A request that Django has not seen, for those who look at it."""
    return cast("Any", WSGIRequest)(environ)


async def _never() -> Message:
    """Wait until cancelled: the client stays until it has its reply."""
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")
