"""Quart apps: their routes, for the policies to cover, and their errors as problem documents.

Quart makes a page of an unexpected error, and goes on as if the request had been answered. Here the error is passed on
(PROPAGATE_EXCEPTIONS, unless the app has set it), so that the unit may repeat what lost to another transaction, and the
guard logs and answers the rest.
"""

import re
from collections.abc import Iterator
from typing import Any, Final, cast

from quart import Quart, Response
from werkzeug.exceptions import HTTPException, InternalServerError
from werkzeug.routing import Rule

from workhorse.asgi import Reply
from workhorse.errors import Problem
from workhorse.integrations.routes import AppRoute, source_of
from workhorse.problems import plain_problem, render_problem, request_instance

__all__ = ["adopt", "is_ours", "list_routes", "template_of"]

_PARAMETER: Final = re.compile(r"<(?:(?P<converter>[^<>:(]+)(?:\([^<>]*\))?:)?(?P<name>[^<>]+)>")
_REDIRECTS: Final = range(300, 400)


def is_ours(app: object) -> bool:
    """Whether this is a Quart app."""
    return isinstance(app, Quart)


def adopt(app: object, *, own_errors: bool = False) -> bool:
    """Add handlers to `app` if it is a Quart app, where it has none of its own."""
    if not isinstance(app, Quart):
        return False
    handlers = app.error_handler_spec[None]  # the app's own, not those of its blueprints
    general = handlers[None]
    if Problem not in general:
        app.register_error_handler(Problem, _problem)
    if HTTPException not in general and not own_errors:
        app.register_error_handler(HTTPException, _http_error)
    theirs = Exception in general or InternalServerError in handlers.get(500, {})
    if cast("dict[str, object]", app.config).get("PROPAGATE_EXCEPTIONS") is None and not theirs:
        app.config["PROPAGATE_EXCEPTIONS"] = True
    return True


def list_routes(app: object) -> list[AppRoute] | None:
    """The routes of a Quart app; None for an app of another kind."""
    return list(_walk(app)) if isinstance(app, Quart) else None


def template_of(rule: str, converters: Any) -> str:
    """The rule, such as `/notes/<int:number>`, as a template: `/notes/{number}`."""

    def parameter(match: re.Match[str]) -> str:
        known = converters.get(match["converter"] or "default")
        # `part_isolating`: what it takes ends with the segment.
        many = known is not None and not known.part_isolating
        return f"{{{match['name']}:path}}" if many else f"{{{match['name']}}}"

    return _PARAMETER.sub(parameter, rule)


def _walk(app: Quart) -> Iterator[AppRoute]:
    for rule in app.url_map.iter_rules():
        handler = app.view_functions.get(rule.endpoint)
        host = rule.host or (f"{rule.subdomain}.{{host}}" if rule.subdomain else "")
        methods = {"WEBSOCKET"} if rule.websocket else set(rule.methods or {"*"})
        # OPTIONS is answered by Quart itself, and HEAD goes with GET.
        methods -= {"OPTIONS", "HEAD"} if "GET" in methods else set()
        for path in _paths(app, rule):
            for method in sorted(methods):
                yield AppRoute(path, method, source_of(handler), rule.endpoint, host)


def _paths(app: Quart, rule: Rule) -> list[str]:
    """What it takes without a redirect: where a rule is not strict about it, the slash at the end may be missing."""
    template = template_of(rule.rule, app.url_map.converters)
    if rule.strict_slashes or template == "/":
        return [template]
    return [template.rstrip("/"), template.rstrip("/") + "/"]


async def _problem(error: Problem) -> Response:
    return _response(render_problem(error, instance=request_instance()))


async def _http_error(error: HTTPException) -> Any:
    status = error.code
    if status is None or status in _REDIRECTS or error.response is not None:
        return error  # a reply that is raised, such as a redirect to the path with its slash
    if isinstance(error, InternalServerError):
        return _response(plain_problem(status, instance=request_instance()))
    detail = error.description if error.description != type(error).description else ""
    own = [(name.lower().encode(), value.encode()) for name, value in error.get_headers() if name != "Content-Type"]
    return _response(plain_problem(status, detail or "", headers=tuple(own), instance=request_instance()))


def _response(reply: Reply) -> Response:
    response = Response(reply.body, reply.status)
    for name, value in reply.headers:
        response.headers[name.decode()] = value.decode("latin-1")
    return response
