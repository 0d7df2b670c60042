"""From a `Problem` to the RFC 9457 document that the client reads.

One pure function, so that the guard, the unit and the framework's handlers all answer in the same words. The
document never holds more than the problem was given: no exception text, no stack, no SQL.
"""

from collections.abc import Mapping
from http import HTTPStatus

import msgspec

from workhorse.asgi import Reply
from workhorse.context import CURRENT
from workhorse.errors import Problem

__all__ = ["CONTENT_TYPE", "internal_error", "plain_problem", "render_problem", "request_instance"]

CONTENT_TYPE = b"application/problem+json"

_encode = msgspec.json.Encoder(enc_hook=str).encode


def render_problem(problem: Problem, *, instance: str = "") -> Reply:
    """Render `problem` as `application/problem+json` (RFC 9457, section 3).

    Args:
        problem: what went wrong, in the words for the client.
        instance: identifies this one occurrence; the guard puts `urn:uuid`-like request ids here, so that a
            client can quote it and the operator can find the log line.
    """
    document: dict[str, object] = dict(problem.extensions)
    document["type"] = problem.type
    document["title"] = problem.title or HTTPStatus(problem.status).phrase
    document["status"] = problem.status
    if problem.detail:
        document["detail"] = problem.detail
    if instance:
        document["instance"] = instance
    if problem.faults:
        document["errors"] = [{"pointer": fault.pointer, "reason": fault.reason} for fault in problem.faults]
    body = _encode(document)
    headers = (
        (b"content-type", CONTENT_TYPE),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        *problem.headers,
    )
    return Reply(status=problem.status, headers=headers, body=body)


def request_instance() -> str:
    """The URI that names this request in problem documents; empty where no guard has given it an id."""
    request = CURRENT.get(None)
    return f"urn:workhorse:request:{request.request_id.decode()}" if request is not None else ""


def plain_problem(
    status: int,
    detail: str = "",
    *,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    instance: str = "",
    extensions: Mapping[str, object] | None = None,
) -> Reply:
    """Render a problem that says no more than its status (type `about:blank`)."""
    problem = Problem(detail, headers=headers, extensions=extensions)
    problem.status = status  # type: ignore[misc]  # one instance, for which a class would say nothing more
    return render_problem(problem, instance=instance)


def internal_error(*, instance: str = "") -> Reply:
    """Render the 500 for an exception that nobody expected. It says nothing of the exception (CWE-209)."""
    return render_problem(Problem("The error has been logged."), instance=instance)
