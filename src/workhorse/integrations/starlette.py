"""Starlette apps: raised `Problem`s, HTTP errors and unexpected errors become problem documents.

Done through the framework's own exception handlers, so that its middleware sees an ordinary reply, and only where the
app has none: an app that says how its errors look is right.
"""

import itertools
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from workhorse.asgi import Reply, Scope
from workhorse.errors import Problem
from workhorse.problems import internal_error, plain_problem, render_problem, request_instance

__all__ = ["adopt", "http_error", "is_routed", "problem_response", "unexpected_error"]

# What Starlette puts into `detail` when it was given none.
PHRASES: Final = frozenset(status.phrase for status in HTTPStatus)
PARAMETER: Final = re.compile(r"\{[^/}]*\}")
# One that each of Starlette's path convertors takes: str, int, float and path; uuid.
SAMPLES: Final = ("1", "00000000-0000-4000-8000-000000000000")
MAX_PARAMETERS: Final = 6
METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
BODILESS: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


def adopt(app: object) -> bool:
    """Add the handlers to `app` if it is a Starlette app."""
    if not isinstance(app, Starlette):
        return False
    app.exception_handlers.setdefault(Problem, problem_response)
    app.exception_handlers.setdefault(HTTPException, http_error)
    app.exception_handlers.setdefault(Exception, unexpected_error)
    return True


def is_routed(app: object, method: str, path: str) -> bool:
    """Whether one of the app's routes takes this method and path template.

    The routes themselves are asked, with samples in place of the parameters, because routers nest in ways that only
    they know. A sub-app that is mounted there takes everything below it, as far as can be seen.
    """
    if not isinstance(app, Starlette):
        return True
    parameters = len(PARAMETER.findall(path))
    if parameters > MAX_PARAMETERS:
        return True
    methods = METHODS if method == "*" else (method,)
    for samples in itertools.product(SAMPLES, repeat=parameters):
        sample = PARAMETER.sub("%s", path.replace("%", "%%")) % samples
        for one in methods:
            scope: Scope = {
                "type": "http",
                "method": one,
                "path": sample,
                "root_path": "",
                "headers": [],
                "query_string": b"",
            }
            if any(route.matches(dict(scope))[0] is Match.FULL for route in app.routes):
                return True
    return False


def problem_response(request: Request, error: Exception) -> Response:
    """Answer with a raised `Problem`."""
    assert isinstance(error, Problem)
    return _response(render_problem(error, instance=request_instance(request.scope)))


def http_error(request: Request, error: Exception) -> Response:
    """Answer with the framework's own HTTP error: 404, 405, or what the app raised."""
    assert isinstance(error, HTTPException)
    if error.status_code in BODILESS:
        return Response(status_code=error.status_code, headers=error.headers)
    detail = cast("object", error.detail)  # declared as a string; FastAPI passes any JSON through it
    reply = plain_problem(
        error.status_code,
        detail if isinstance(detail, str) and detail not in PHRASES else "",
        headers=_pairs(error.headers),
        instance=request_instance(request.scope),
        # RFC 9457 wants a string as detail; what is none goes beside it.
        extensions={} if isinstance(detail, str) else {"context": detail},
    )
    return _response(reply)


def unexpected_error(request: Request, error: Exception) -> Response:  # noqa: ARG001 - nothing of it is told
    """Answer for an error that nobody expected. The framework raises it again, and the guard logs it."""
    return _response(internal_error(instance=request_instance(request.scope)))


def _pairs(headers: Mapping[str, str] | None) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items())


def _response(reply: Reply) -> Response:
    response = Response(reply.body, status_code=reply.status)
    response.raw_headers = list(reply.headers)
    return response
