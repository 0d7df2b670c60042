"""Falcon apps: their routes, for the policies to cover, and their errors as problem documents.

Falcon makes a reply of an unexpected error, and goes on as if the request had been answered. Here the error is passed
on, unless the app handles it, so that the unit may repeat what lost to another transaction, and the guard logs and
answers the rest.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from falcon import HTTPError
from falcon.app_helpers import default_serialize_error
from falcon.asgi import App, Request, Response
from falcon.inspect import inspect_routes

from workhorse.asgi import Reply, Scope
from workhorse.errors import Problem
from workhorse.integrations.routes import AppRoute, source_of
from workhorse.problems import plain_problem, render_problem, request_instance

__all__ = ["adopt", "is_ours", "list_routes", "rerouter", "template_of"]

_PARAMETER: Final = re.compile(r"\{(?P<name>[^{}:]+)(?::(?P<converter>[^{}]*))?\}")
# Falcon makes a handler of its own for these, and for each method that a resource lacks.
_NOT_THE_APPS: Final = frozenset({"HEAD", "OPTIONS"})


def is_ours(app: object) -> bool:
    """Whether this is a Falcon app for ASGI."""
    return isinstance(app, App)


def adopt(app: object, *, own_errors: bool = False) -> bool:
    """Add handlers to `app` if it is a Falcon app, where it has none of its own."""
    if not is_ours(app):
        return False
    falcon: Any = app
    known = _private(app, "_error_handlers")
    if Problem not in known:
        falcon.add_error_handler(Problem, _problem)
    # What Falcon set itself is a method of the app.
    if getattr(known.get(Exception), "__self__", None) is app:
        falcon.add_error_handler(Exception, _pass_on)
    if _private(app, "_serialize_error") is default_serialize_error and not own_errors:
        falcon.set_error_serializer(_serialize)
    return True


def list_routes(app: object) -> list[AppRoute] | None:
    """The routes of a Falcon app; None for an app of another kind, or with a router that Falcon cannot look into."""
    if not is_ours(app):
        return None
    ours: Any = app
    try:
        routes = inspect_routes(ours)
    except TypeError:
        return None
    return [*_of_routes(routes), *_of_the_rest(ours)]


def rerouter(app: object) -> Callable[[Scope], Scope] | None:
    """For a Falcon app that takes a slash at the end for none, what makes a scope say so; else None."""
    if isinstance(app, App) and app.req_options.strip_url_path_trailing_slash:
        return as_routed
    return None


def as_routed(scope: Scope) -> Scope:
    """The scope with the path without the slash at its end."""
    path: str = scope["path"]
    if len(path) == 1 or not path.endswith("/"):
        return scope
    raw: bytes = scope.get("raw_path") or path.encode()
    return {**scope, "path": path[:-1], "raw_path": raw.removesuffix(b"/")}


def template_of(uri: str) -> str:
    """The template of Falcon's as one of ours: a converter that takes the rest of the path becomes `:path`."""
    return _PARAMETER.sub(
        lambda match: f"{{{match['name']}:path}}" if match["converter"] == "path" else f"{{{match['name']}}}", uri
    )


def _of_routes(routes: list[Any]) -> Iterator[AppRoute]:
    for route in routes:
        own = {method.method: method for method in route.methods if not method.internal}
        for name, method in sorted(own.items()):
            if name in _NOT_THE_APPS and not (name == "HEAD" and "GET" not in own):
                continue
            handler = f"{route.class_name}.{method.function_name}"
            yield AppRoute(template_of(route.path), name, method.source_info, handler)


def _of_the_rest(app: object) -> Iterator[AppRoute]:
    """Sinks and static files: by the literal begin of what they take, and anything below."""
    for pattern, sink, _ in _private(app, "_sinks"):
        yield AppRoute(_literal_begin(pattern.pattern) + "{rest:path}", "*", source_of(sink), sink.__name__)
    for static, _, _ in _private(app, "_static_routes"):
        yield AppRoute(_private(static, "_prefix").rstrip("/") + "/{rest:path}", "GET", "", "static files")


def _literal_begin(pattern: str) -> str:
    """The whole segments that a sink's pattern spells out."""
    literal = re.match(r"\^?(?P<begin>(?:/[\w~.-]+)*/?)", pattern.replace("\\", ""))
    begin = literal["begin"] if literal is not None else ""
    return begin if begin.endswith("/") else begin[: begin.rfind("/") + 1] or "/"


def _private(thing: object, name: str) -> Any:
    """What Falcon has no public name for."""
    return getattr(thing, name)


# Falcon gives its handlers all of these.
async def _problem(_request: Request, response: Response, error: Problem, _params: dict[str, Any]) -> None:
    _fill(response, render_problem(error, instance=request_instance()))


async def _pass_on(_request: Request, _response: Response, error: Exception, _params: dict[str, Any]) -> None:
    raise error


def _serialize(_request: Request, response: Response, error: HTTPError) -> None:
    # Its headers are on the response already.
    fields = error.to_dict()
    detail = str(fields.get("description") or "")
    further = {name: fields[name] for name in ("code", "link") if name in fields}
    _fill(response, plain_problem(error.status_code, detail, instance=request_instance(), extensions=further))


def _fill(response: Response, reply: Reply) -> None:
    response.status = reply.status
    response.data, response.text, response.media, response.stream = reply.body, None, None, None
    response.set_headers([(name.decode(), value.decode("latin-1")) for name, value in reply.headers])
