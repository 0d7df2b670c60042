"""BlackSheep apps: their routes, for the policies to cover, how their router reads a path, and errors as problems.

The router takes letters of either case for one another, and a slash at the end for none; a policy does neither. So the
guard sees each path spelt as its route is.

BlackSheep makes a reply of an unexpected error, and goes on as if the request had been answered. Here the error is
passed on, unless the app handles it, so that the unit may repeat what lost to another transaction, and the guard logs
and answers the rest.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import Any, Final, cast

from blacksheep import Application, Content, Request, Response
from blacksheep.exceptions import HTTPException
from blacksheep.server.application import default_fallback

from workhorse.asgi import Reply, Scope
from workhorse.errors import Problem
from workhorse.integrations.routes import AppRoute, source_of
from workhorse.problems import plain_problem, render_problem, request_instance

__all__ = ["adopt", "is_ours", "list_routes", "rerouter", "template_of"]

# <int:number>, {int:number}, :number
_PARAMETER: Final = re.compile(r"[<{](?:(?P<kind>[^<>{}:]+):)?(?P<name>[^<>{}]+)[>}]|(?<=/):(?P<bare>[^/]+)")
_SOCKET: Final = "GET_WS"
# What BlackSheep answers by itself, as long as nobody has set another handler.
_DEFAULTS: Final = frozenset({"handle_not_found", "handle_bad_request"})


def is_ours(app: object) -> bool:
    """Whether this is a BlackSheep app."""
    return isinstance(app, Application)


def adopt(app: object, *, own_errors: bool = False) -> bool:
    """Add handlers to `app` if it is a BlackSheep app, where it has none of its own."""
    if not isinstance(app, Application):
        return False
    handlers = cast("Any", app).exceptions_handlers
    handlers.setdefault(Problem, _problem)
    for status in HTTPStatus if not own_errors else ():
        code = status.value
        if code >= 400 and code != 500 and getattr(handlers.get(code), "__name__", "handle_not_found") in _DEFAULTS:
            handlers[code] = _http_error
    if 500 not in handlers and Exception not in handlers and not app.show_error_details:
        # There is no hook that an exception may leave by.
        setattr(app, "handle_internal_server_error", _pass_on)  # noqa: B010 - its type is a method's
    return True


def list_routes(app: object) -> list[AppRoute] | None:
    """The routes of a BlackSheep app, those of mounted apps as a whole; None for an app of another kind.

    None as well for one with controllers that has not been started: their paths are made then. A service looks again.
    """
    if not isinstance(app, Application) or (app.controllers_router.routes and not app.started):
        return None
    return list(_walk(app))


def rerouter(app: object) -> Callable[[Scope], Scope] | None:
    """For a BlackSheep app what spells a scope's path as its route is; else None."""
    if not isinstance(app, Application):
        return None

    def as_routed(scope: Scope) -> Scope:
        path: str = scope["path"]
        if path.islower() and not path.endswith("/"):
            return scope  # as nearly all are
        routes: Any = app.router
        spelt = _spelt(path, scope.get("root_path") or "", routes.iter_all())
        return scope if spelt == path else {**scope, "path": spelt, "raw_path": spelt.encode()}

    return as_routed


def template_of(pattern: str) -> str:
    """The pattern of a route as a template: `/notes/{int:number}` is `/notes/{number}`, and `*` takes the rest."""

    def parameter(match: re.Match[str]) -> str:
        name = match["bare"] or match["name"]
        return f"{{{name}:path}}" if match["kind"] == "path" else f"{{{name}}}"

    return _PARAMETER.sub(parameter, pattern).replace("*", "{rest:path}")


def _walk(app: Application) -> Iterator[AppRoute]:
    router: Any = app.router
    # Those that wait to be applied at the start, and those that have been.
    for method, route in [*router.registered_routes, *router.iter_with_methods()]:
        if route.handler is default_fallback:
            continue  # which says that there is nothing
        name = method.decode() if isinstance(method, bytes) else str(method)
        kind = "WEBSOCKET" if name == _SOCKET else name
        if kind == "OPTIONS":
            continue
        pattern = "/" + route.pattern.decode().lstrip("/")
        handler = getattr(route.handler, "root_fn", route.handler)
        yield AppRoute(template_of(pattern), kind, source_of(handler), getattr(handler, "__name__", ""))


def _spelt(path: str, root: str, routes: Iterable[Any]) -> str:
    """The path as the first of these routes that takes it spells it; as it is where none does."""
    inner = path.removeprefix(root) if root else path
    given = inner.rstrip("/").split("/")[1:] or [""]
    for route in routes:
        if route.pattern != b"*" and route.match_by_path(inner.encode()) is not None:
            written = template_of("/" + route.pattern.decode().lstrip("/")).split("/")[1:]
            return root + "/" + "/".join(_as_written(given, written))
    return path


def _as_written(given: Sequence[str], written: Sequence[str]) -> Iterator[str]:
    for number, part in enumerate(given):
        own = written[number] if number < len(written) else part
        yield own if own.casefold() == part.casefold() else part


async def _problem(app: Any, request: Request, error: Problem) -> Response:  # noqa: ARG001 - BlackSheep's words
    return _response(render_problem(error, instance=request_instance()))


async def _http_error(app: Any, request: Request, error: HTTPException) -> Response:  # noqa: ARG001 - the same
    detail = str(error) if error.args else ""
    return _response(plain_problem(error.status, detail, instance=request_instance()))


async def _pass_on(request: Request, error: Exception) -> Response:  # noqa: ARG001 - the same
    raise error


def _response(reply: Reply) -> Response:
    own = [(name, value) for name, value in reply.headers if name not in {b"content-type", b"content-length"}]
    content_type = next(value for name, value in reply.headers if name == b"content-type")
    return Response(reply.status, own, Content(content_type, reply.body))
