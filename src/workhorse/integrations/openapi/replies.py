"""The refusals of a route as an OpenAPI document shows them: made from the classes that are answered with.

Each status is one component of the document, or where two kinds of routes differ, one for each kind.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from workhorse.errors import (
    Conflict,
    DatabaseTimeout,
    DatabaseUnavailable,
    OutcomeUnknown,
    Problem,
    StoreUnavailable,
)
from workhorse.guard.checks.csrf import SAFE_METHODS
from workhorse.guard.problems import (
    BodyTooLarge,
    BodyTooSlow,
    CrossOriginRefused,
    DeadlineExceeded,
    MalformedRequest,
    Overloaded,
    TooManyRequests,
    UnsupportedMediaType,
)
from workhorse.guard.routes import Route
from workhorse.identity.scheme import IssuerUnavailable, NotAllowed, NotAuthenticated
from workhorse.problems import CONTENT_TYPE
from workhorse.units.idempotency import KeyInFlight, KeyMalformed, KeyMissing, KeyReused, KeyStale, ReplyNotKept

__all__ = ["HEADERS", "PROBLEM_JSON", "PROBLEM_SCHEMA", "ProblemReply", "examples_of", "problem_replies", "replies_of"]

PROBLEM_JSON: Final = CONTENT_TYPE.decode()

PROBLEM_SCHEMA: Final[Mapping[str, Any]] = {
    "title": "Problem",
    "description": "What went wrong (RFC 9457). Some kinds of problems have further members.",
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "description": "The kind of problem, to decide by."},
        "title": {"type": "string", "description": "The kind of problem in words."},
        "status": {"type": "integer", "minimum": 400, "maximum": 599, "description": "The status of the reply."},
        "detail": {"type": "string", "description": "What happened in this one case."},
        "instance": {
            "type": "string",
            "format": "uri-reference",
            "description": "Names this one request, to quote when asking about it.",
        },
        "errors": {
            "type": "array",
            "description": "What is wrong with the request, one entry each.",
            "items": {
                "type": "object",
                "required": ["pointer", "reason"],
                "properties": {
                    "pointer": {
                        "type": "string",
                        "description": "A JSON Pointer (RFC 6901) into the body, or the name of a parameter or header.",
                    },
                    "reason": {"type": "string"},
                },
            },
        },
    },
}

HEADERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "Retry-After": {
        "description": "Seconds until it may be worth sending the request again (RFC 9110, section 10.2.3).",
        "schema": {"type": "integer", "minimum": 0},
    },
    "RateLimit-Policy": {
        "description": "The rate limits of this operation (draft-ietf-httpapi-ratelimit-headers).",
        "schema": {"type": "string"},
    },
    "RateLimit": {
        "description": "What is left of each limit, and the seconds until all of it is back.",
        "schema": {"type": "string"},
    },
    "WWW-Authenticate": {
        "description": "How to prove who calls (RFC 9110, section 11.6.1).",
        "schema": {"type": "string"},
    },
    "Idempotent-Replayed": {
        "description": "Present where this is the reply to an earlier request with the same Idempotency-Key.",
        "schema": {"type": "string", "enum": ["true"]},
    },
}
"""The headers that the service adds to replies, as components."""

UNAVAILABLE: Final = (
    Overloaded,
    StoreUnavailable,
    DatabaseUnavailable,
    DatabaseTimeout,
    Conflict,
    OutcomeUnknown,
)


class InternalError(Problem):
    """500: what nobody expected, as `workhorse.problems.internal_error` tells of it."""

    title = HTTPStatus.INTERNAL_SERVER_ERROR.phrase


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemReply:
    """One status that an operation may be answered with."""

    name: str
    """Names the component."""
    kinds: tuple[type[Problem], ...]
    """All of one status; at least one."""
    headers: tuple[str, ...] = ()
    """Of `HEADERS`."""

    @property
    def status(self) -> int:
        """The status."""
        return self.kinds[0].status

    @property
    def description(self) -> str:
        """What it says, in words."""
        return _described(self.kinds)


def replies_of(route: Route, method: str, *, known: bool, body: bool, cross_site: bool) -> Iterator[ProblemReply]:
    """What the guard and the units may answer a request of this route with, in the order of its status.

    Args:
        route: the route's policy, compiled.
        method: in capital letters.
        known: whether callers must be known.
        body: whether requests have one.
        cross_site: whether other sites' pages may send them.
    """
    key = route.policy.idempotent if route.policy is not None else False
    if key == "required":
        yield ProblemReply(name="MalformedOrWithoutKey", kinds=(MalformedRequest, KeyMissing, KeyMalformed))
    elif key:
        yield ProblemReply(name="MalformedRequestOrKey", kinds=(MalformedRequest, KeyMalformed))
    else:
        yield ProblemReply(name="MalformedRequest", kinds=(MalformedRequest,))
    if known:
        yield ProblemReply(name="NotAuthenticated", kinds=(NotAuthenticated,), headers=("WWW-Authenticate",))
    refused = method not in SAFE_METHODS and not cross_site
    if known and route.scopes:
        kinds = (NotAllowed, CrossOriginRefused) if refused else (NotAllowed,)
        name = "NotAllowedOrCrossOrigin" if refused else "NotAllowed"
        yield ProblemReply(name=name, kinds=kinds, headers=("WWW-Authenticate",))
    elif refused:
        yield ProblemReply(name="CrossOriginRefused", kinds=(CrossOriginRefused,))
    if body:
        yield ProblemReply(name="BodyTooSlow", kinds=(BodyTooSlow,))
    if key:
        yield ProblemReply(name="KeyConflict", kinds=(KeyInFlight, KeyStale, ReplyNotKept), headers=("Retry-After",))
    if body:
        yield ProblemReply(name="BodyTooLarge", kinds=(BodyTooLarge,))
        yield ProblemReply(name="UnsupportedMediaType", kinds=(UnsupportedMediaType,))
    if key:
        yield ProblemReply(name="KeyReused", kinds=(KeyReused,))
    if route.limits:
        headers = ("Retry-After", "RateLimit-Policy", "RateLimit")
        yield ProblemReply(name="TooManyRequests", kinds=(TooManyRequests,), headers=headers)
    yield ProblemReply(name="InternalError", kinds=(InternalError,))
    unavailable = (*UNAVAILABLE, IssuerUnavailable) if known else UNAVAILABLE
    name = "UnavailableOrIssuerAway" if known else "Unavailable"
    yield ProblemReply(name=name, kinds=unavailable, headers=("Retry-After",))
    yield ProblemReply(name="DeadlineExceeded", kinds=(DeadlineExceeded,))


def problem_replies(*kinds: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """What an app's own problems look like, for a framework to put into its document.

        @api.post("/transfers", responses=problem_replies(UnknownDebtor, InsufficientFunds))

    The service adds the schema, and what it may answer itself with the same status.

    Args:
        kinds: the classes that the handler may raise.

    Returns:
        Response objects (OpenAPI 3.1.1, section 4.8.17) by status.
    """
    replies: dict[int | str, dict[str, Any]] = {}
    for status in sorted({kind.status for kind in kinds}):
        alike = [kind for kind in kinds if kind.status == status]
        replies[status] = {
            "description": _described(alike),
            "content": {PROBLEM_JSON: {"examples": examples_of(alike)}},
        }
    return replies


def examples_of(kinds: Sequence[type[Problem]]) -> dict[str, Any]:
    """An example for each kind, under the last word of its type, or its class's name where it has no type."""
    examples: dict[str, Any] = {}
    for kind in kinds:
        title = kind.title or HTTPStatus(kind.status).phrase
        word = kind.__name__ if kind.type == "about:blank" else kind.type.replace("/", ":").rpartition(":")[2]
        value = {"type": kind.type, "title": title, "status": kind.status}
        examples[word or kind.__name__] = {"summary": title, "value": value}
    return examples


def _described(kinds: Sequence[type[Problem]]) -> str:
    titles = [kind.title or HTTPStatus(kind.status).phrase for kind in kinds]
    return titles[0] if len(titles) == 1 else "One of: " + "; ".join(titles)
