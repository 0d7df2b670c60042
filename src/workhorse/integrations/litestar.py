"""Litestar apps: their routes, for the policies to cover, how their router reads a path, and errors as problems.

Litestar makes a reply of an unexpected error, and goes on as if the request had been answered. Here the error is passed
on, unless the app handles it, so that the unit may repeat what lost to another transaction, and the guard logs and
answers the rest.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

from litestar import Litestar, Request, Response
from litestar.exceptions import HTTPException
from litestar.exceptions import responses as litestar_responses
from litestar.routes import ASGIRoute, HTTPRoute

from workhorse.asgi import Reply, Scope
from workhorse.errors import Fault, Problem
from workhorse.integrations.routes import AppRoute, source_of
from workhorse.problems import render_problem, request_instance

__all__ = ["adopt", "is_ours", "list_routes", "rerouter"]

# Faults told of one request; a body of a million wrong rows must not make a reply of a million.
MAX_FAULTS: Final = 100
# Typed by halves.
LITESTAR_RESPONSES: Final[Any] = litestar_responses

_SLASHES: Final = re.compile("/+")
_RAW_SLASHES: Final = re.compile(b"/+")


def adopt(app: object, *, own_errors: bool = False) -> bool:
    """Add handlers to `app` if it is a Litestar app, where it has none of its own."""
    if not isinstance(app, Litestar):
        return False
    handlers = cast("Any", app).exception_handlers
    handlers.setdefault(Problem, _problem)
    if not own_errors:
        handlers.setdefault(HTTPException, _http_error)
    elif HTTPException not in handlers:
        handlers[HTTPException] = _own_error
    if not app.debug and 500 not in handlers:
        handlers.setdefault(Exception, _pass_on)
    return True


def rerouter(app: object) -> Callable[[Scope], Scope] | None:
    """For a Litestar app `as_routed`, else None."""
    return as_routed if isinstance(app, Litestar) else None


def as_routed(scope: Scope) -> Scope:
    """The scope with the path that Litestar's router serves it by, so that the policy of that path is found.

    The router takes several slashes for one, and those at the end off. Where the server says that the app is mounted at
    a prefix, it goes by what follows the prefix's first place in the path, wherever that is.
    """
    path: str = scope["path"]
    raw: bytes = scope.get("raw_path") or path.encode()
    prefix: str = scope.get("root_path") or ""
    routed, raw_routed = path, raw
    if prefix and prefix in path:
        routed = f"{prefix}/{path.split(prefix, 1)[1]}"
        raw_routed = prefix.encode() + b"/" + raw.split(prefix.encode(), 1)[-1]
    routed = _SLASHES.sub("/", routed).rstrip("/") or "/"
    raw_routed = _RAW_SLASHES.sub(b"/", raw_routed).rstrip(b"/") or b"/"
    return scope if routed == path else {**scope, "path": routed, "raw_path": raw_routed}


def is_ours(app: object) -> bool:
    """Whether this is a Litestar app."""
    return isinstance(app, Litestar)


def list_routes(app: object) -> list[AppRoute] | None:
    """The routes of a Litestar app; None for an app of another kind."""
    return list(_walk(app)) if isinstance(app, Litestar) else None


def _walk(app: Litestar) -> Iterator[AppRoute]:
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                # OPTIONS is answered by Litestar itself, and HEAD goes with GET.
                for method in sorted(handler.http_methods - {"HEAD", "OPTIONS"}):
                    yield AppRoute(route.path, str(method), source_of(handler.fn), handler.handler_name)
        elif isinstance(route, ASGIRoute):
            path = route.path.rstrip("/") + "/{rest:path}" if route.route_handler.is_mount else route.path
            yield AppRoute(path, "*", source_of(route.route_handler.fn), route.route_handler.handler_name)
        else:
            handler_name = route.route_handler.handler_name
            yield AppRoute(route.path, "WEBSOCKET", source_of(route.route_handler.fn), handler_name)


def _problem(request: Request[Any, Any, Any], error: Problem) -> Response[bytes]:  # noqa: ARG001 - Litestar's words
    return _response(render_problem(error, instance=request_instance()))


def _http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:  # noqa: ARG001 - the same
    extra: object = error.extra
    listed = extra[:MAX_FAULTS] if isinstance(extra, list) else []
    faults = [_fault(cast("dict[str, Any]", one)) for one in listed if isinstance(one, dict)]
    own = tuple((name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items())
    further: dict[str, object] = {"context": extra} if isinstance(extra, dict) else {}
    problem = Problem(error.detail, faults=faults, headers=own, extensions=further)
    problem.status = error.status_code  # type: ignore[misc]  # one instance, for which a class would say nothing more
    return _response(render_problem(problem, instance=request_instance()))


def _fault(told: dict[str, Any]) -> Fault:
    """A fault of validation: in a parameter, or in the body, whose keys are joined by dots."""
    source, key = str(told.get("source") or "body"), str(told.get("key") or "")
    place = "/" + key.replace(".", "/") if source == "body" and key else f"{source} {key}".strip()
    return Fault(place, str(told.get("message", "")))


def _own_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    own: Response[Any] = LITESTAR_RESPONSES.create_exception_response(request=request, exc=error)
    return own


def _pass_on(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:  # noqa: ARG001 - the same
    raise error


def _response(reply: Reply) -> Response[bytes]:
    headers = {name.decode(): value.decode("latin-1") for name, value in reply.headers}
    media_type = headers.pop("content-type")
    return Response(reply.body, status_code=reply.status, headers=headers, media_type=media_type)
