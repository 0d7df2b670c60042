"""Starlette apps: raised `Problem`s, HTTP errors and unexpected errors become problem documents.

Done through the framework's own exception handlers, so that its middleware sees an ordinary reply, and only where the
app has none: an app that says how its errors look is right.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final, cast

from starlette.applications import Starlette
from starlette.convertors import CONVERTOR_TYPES
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Host, Match, Mount, Route, WebSocketRoute

from workhorse.asgi import Reply, Scope
from workhorse.errors import Problem
from workhorse.integrations.routes import AppRoute, source_of
from workhorse.problems import internal_error, plain_problem, render_problem, request_instance

__all__ = [
    "adopt",
    "http_error",
    "is_ours",
    "is_routed",
    "list_routes",
    "mounted_apps",
    "of_endpoint",
    "problem_response",
    "unexpected_error",
]

# What Starlette puts into `detail` when it was given none.
PHRASES: Final = frozenset(status.phrase for status in HTTPStatus)
CONVERTED: Final = re.compile(r"\{(?P<name>[^{}:]*):(?P<convertor>[^{}]*)\}")
PARAMETER: Final = re.compile(r"\{[^/}]*\}")
# One that each of Starlette's path convertors takes: str, int, float and path; uuid.
SAMPLES: Final = ("1", "00000000-0000-4000-8000-000000000000")
MAX_PARAMETERS: Final = 6
METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
# Apps in apps, and middleware around each, are looked into so far.
MAX_DEPTH: Final = 20
BODILESS: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


def adopt(app: object, *, own_errors: bool = False) -> bool:
    """Add the handlers to `app` if it is a Starlette app."""
    if not isinstance(app, Starlette):
        return False
    app.exception_handlers.setdefault(Problem, problem_response)
    if own_errors:
        return True
    app.exception_handlers.setdefault(HTTPException, http_error)
    app.exception_handlers.setdefault(Exception, unexpected_error)
    return True


def is_routed(app: object, method: str, path: str) -> bool | None:
    """Whether one of the app's routes takes this method and path template; None for an app of another kind.

    The routes themselves are asked, with samples in place of the parameters, because routers nest in ways that only
    they know. A sub-app that is mounted there takes everything below it, as far as can be seen.
    """
    if not isinstance(app, Starlette):
        return None
    parameters = len(PARAMETER.findall(path))
    if parameters > MAX_PARAMETERS:
        return True
    methods = METHODS if method == "*" else (method,)
    for samples in itertools.product(SAMPLES, repeat=parameters):
        sample = PARAMETER.sub("%s", path.replace("%", "%%")) % samples
        for one in methods:
            # The handshake of a WebSocket is a GET.
            for kind in ("http", "websocket") if one == "GET" else ("http",):
                scope: Scope = {
                    "type": kind,
                    "method": one,
                    "path": sample,
                    "root_path": "",
                    "headers": [],
                    "query_string": b"",
                }
                if any(route.matches(dict(scope))[0] is Match.FULL for route in app.routes):
                    return True
    return False


def is_ours(app: object) -> bool:
    """Whether this is a Starlette app."""
    return isinstance(app, Starlette)


def list_routes(app: object) -> list[AppRoute] | None:
    """The routes of a Starlette app, those of mounted apps included; None for an app of another kind."""
    return list(_walk(app.routes, "")) if isinstance(app, Starlette) else None


def mounted_apps(app: object) -> Iterator[tuple[str, Starlette]]:
    """The Starlette apps that are mounted in a Starlette app, at whatever depth, with the path that leads to each."""
    if isinstance(app, Starlette):
        yield from _mounted(app.routes, "", frozenset({id(app)}))


def _mounted(routes: Iterable[BaseRoute], prefix: str, above: frozenset[int]) -> Iterator[tuple[str, Starlette]]:
    """`above`: the apps that these routes are in, so that one which is mounted in itself does not go on for ever."""
    for route in routes:
        if isinstance(route, (Mount, Host)):
            path = prefix + route.path if isinstance(route, Mount) else prefix
            inner = _within(route.app)
            if inner is None:
                yield from _mounted(route.routes, path, above)
            elif id(inner) not in above and len(above) < MAX_DEPTH:
                yield path, inner
                yield from _mounted(inner.routes, path, above | {id(inner)})
        else:
            # FastAPI's included routers (see `_of_unknown`).
            contexts: Iterable[Any] = getattr(route, "effective_route_contexts", tuple)()
            found = (getattr(context, "starlette_route", None) for context in contexts)
            yield from _mounted([one for one in found if isinstance(one, (Mount, Host))], prefix, above)


def _within(app: object) -> Starlette | None:
    """The Starlette app inside of middleware, which by custom holds the next one as `app`; None if there is none."""
    for _ in range(MAX_DEPTH):
        if isinstance(app, Starlette):
            return app
        app = getattr(app, "app", None)
    return None


def _walk(routes: Iterable[BaseRoute], prefix: str) -> Iterator[AppRoute]:
    for route in routes:
        if isinstance(route, Mount):
            path = prefix + route.path
            # A mounted app of another framework, or static files, takes whatever lies below.
            inner = route.routes
            yield from _walk(inner, path) if inner else [AppRoute(path + "/{rest:path}", "*")]
        elif isinstance(route, Host):
            inner = route.routes
            found = _walk(inner, prefix) if inner else [AppRoute(prefix + "/{rest:path}", "*")]
            yield from (replace(one, host=route.host) for one in found)
        elif isinstance(route, WebSocketRoute):
            yield AppRoute(with_all_segments(prefix + route.path), "WEBSOCKET", source_of(route.endpoint), route.name)
        elif isinstance(route, Route):
            yield from of_endpoint(prefix + route.path, route.methods, route.endpoint, route.name)
        else:
            yield from _of_unknown(route, prefix)


def with_all_segments(path: str) -> str:
    """The template with `:path` for every convertor that takes slashes, which an app's own may be."""
    return CONVERTED.sub(
        lambda match: f"{{{match['name']}:path}}" if takes_slashes(match["convertor"]) else match[0], path
    )


def takes_slashes(convertor: str) -> bool:
    """Whether a path convertor of this name takes more than one segment."""
    known = CONVERTOR_TYPES.get(convertor)
    return known is not None and re.fullmatch(known.regex, "a/b") is not None


def of_endpoint(path: str, methods: Iterable[str] | None, endpoint: Any, name: str) -> Iterator[AppRoute]:
    """The routes of one endpoint: HEAD goes with GET, and is not listed beside it."""
    path = with_all_segments(path)
    listed = set(methods or ("*",))
    for method in sorted(listed - {"HEAD"} if "GET" in listed else listed):
        yield AppRoute(path, method, source_of(endpoint), name)


def _of_unknown(route: BaseRoute, prefix: str) -> Iterator[AppRoute]:
    """A route of a class that we do not know: by what such classes usually have, else anything.

    FastAPI's included routers are of a private class, and have a context a route, with the whole path.
    """
    contexts = getattr(route, "effective_route_contexts", None)
    if contexts is not None:
        for context in contexts():
            inner = getattr(context, "starlette_route", None)
            if isinstance(inner, (Mount, Host, WebSocketRoute)) or (isinstance(inner, Route) and not context.path):
                yield from _walk([inner], prefix)
            else:
                yield from of_endpoint(prefix + context.path, context.methods, context.endpoint, context.name)
        return
    path = getattr(route, "path", None)
    if isinstance(path, str):
        endpoint = getattr(route, "endpoint", None)
        yield from of_endpoint(prefix + path, getattr(route, "methods", None), endpoint, getattr(route, "name", ""))
    else:
        yield AppRoute(prefix + "/{rest:path}", "*")


def problem_response(request: Request, error: Exception) -> Response:  # noqa: ARG001 - the framework's words
    """Answer with a raised `Problem`."""
    assert isinstance(error, Problem)
    return _response(render_problem(error, instance=request_instance()))


def http_error(request: Request, error: Exception) -> Response:  # noqa: ARG001 - the same
    """Answer with the framework's own HTTP error: 404, 405, or what the app raised."""
    assert isinstance(error, HTTPException)
    if error.status_code in BODILESS:
        return Response(status_code=error.status_code, headers=error.headers)
    detail = cast("object", error.detail)  # declared as a string; FastAPI passes any JSON through it
    reply = plain_problem(
        error.status_code,
        detail if isinstance(detail, str) and detail not in PHRASES else "",
        headers=_pairs(error.headers),
        instance=request_instance(),
        # RFC 9457 wants a string as detail; what is none goes beside it.
        extensions={} if isinstance(detail, str) else {"context": detail},
    )
    return _response(reply)


def unexpected_error(request: Request, error: Exception) -> Response:  # noqa: ARG001 - nothing of it is told
    """Answer for an error that nobody expected. The framework raises it again, and the guard logs it."""
    return _response(internal_error(instance=request_instance()))


def _pairs(headers: Mapping[str, str] | None) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items())


def _response(reply: Reply) -> Response:
    response = Response(reply.body, status_code=reply.status)
    response.raw_headers = list(reply.headers)
    return response
