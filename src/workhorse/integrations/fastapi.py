"""FastAPI apps: as Starlette apps, and a request that fails validation gets a problem that names each fault.

FastAPI's own 422 repeats what the client sent (`input`) and how its models are built (`ctx`, `url`). Here the client
gets where and why, and a value that may be a secret is not sent around (OWASP ASVS 5.0.0 V16.2.5).
"""

from collections.abc import Sequence

from fastapi import FastAPI
from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from workhorse.errors import PROBLEM_PREFIX, Fault, Problem
from workhorse.integrations import starlette

__all__ = ["InvalidRequest", "adopt", "invalid_request"]

# Faults told of one request; a body of a million wrong rows must not make a reply of a million.
MAX_FAULTS = 100


class InvalidRequest(Problem):
    """422: the request does not have the form that the route declares."""

    status = 422
    type = PROBLEM_PREFIX + "invalid-request"
    title = "The request is not valid"


def adopt(app: object) -> bool:
    """Add the handlers to `app` if it is a FastAPI app."""
    if not isinstance(app, FastAPI):
        return False
    handlers = app.exception_handlers
    # FastAPI puts its own defaults there; only those give way.
    if handlers.get(HTTPException) is http_exception_handler:
        del handlers[HTTPException]
    if handlers.get(RequestValidationError) is request_validation_exception_handler:
        handlers[RequestValidationError] = invalid_request
    return starlette.adopt(app)


def invalid_request(request: Request, error: Exception) -> Response:
    """Answer for a request that failed validation."""
    assert isinstance(error, RequestValidationError)
    details = error.errors()
    faults = [Fault(pointer(detail["loc"]), str(detail["msg"])) for detail in details[:MAX_FAULTS]]
    more = len(details) - len(faults)
    return starlette.problem_response(
        request, InvalidRequest(f"{more} further faults are not listed." if more else "", faults=faults)
    )


def pointer(location: Sequence[str | int]) -> str:
    """Where a fault is: a JSON Pointer (RFC 6901) into the body, or the parameter's place and name."""
    place, *rest = location
    if place != "body":
        return f"{place} {'.'.join(str(part) for part in rest)}".strip()
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in rest)
