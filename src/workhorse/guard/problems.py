"""What the client of a refused request is told: one class per kind, in the order of their status."""

from collections.abc import Sequence

from workhorse.errors import PROBLEM_PREFIX, Problem

__all__ = [
    "BodyIncomplete",
    "BodyTooLarge",
    "BodyTooSlow",
    "ClientGone",
    "CrossOriginRefused",
    "DeadlineExceeded",
    "HeadersTooLarge",
    "HostNotServed",
    "MalformedRequest",
    "MethodNotImplemented",
    "MethodNotServed",
    "NothingHere",
    "Overloaded",
    "TargetTooLong",
    "TlsRequired",
    "TooManyRequests",
    "UnsupportedMediaType",
]


class MalformedRequest(Problem):
    """400: the request is one that two readers could understand in two ways."""

    status = 400
    type = PROBLEM_PREFIX + "malformed-request"
    title = "The request is malformed"


class BodyIncomplete(Problem):
    """400: the client stopped in the middle of the body (RFC 9112, section 8)."""

    status = 400
    type = PROBLEM_PREFIX + "body-incomplete"
    title = "The request body is incomplete"


class CrossOriginRefused(Problem):
    """403: another site's page sent this request with the user's cookies, or may have."""

    status = 403
    type = PROBLEM_PREFIX + "cross-origin"
    title = "Requests from this origin are not taken"


class TlsRequired(Problem):
    """403: the request came in plain text, and was not one that may be redirected."""

    status = 403
    type = PROBLEM_PREFIX + "tls-required"
    title = "Only requests over TLS are taken"


class NothingHere(Problem):
    """404: no policy opens this path, so nothing is there for anybody."""

    status = 404
    type = "about:blank"
    title = "Not Found"


class MethodNotServed(Problem):
    """405: policies open this path for other methods."""

    status = 405
    type = "about:blank"
    title = "Method Not Allowed"

    def __init__(self, allowed: Sequence[str]) -> None:
        super().__init__(headers=((b"allow", ", ".join(allowed).encode()),))


class BodyTooSlow(Problem):
    """408: the body did not come in time (RFC 9110, section 15.5.9)."""

    status = 408
    type = PROBLEM_PREFIX + "body-too-slow"
    title = "The request body came too slowly"


class BodyTooLarge(Problem):
    """413: the body is longer than the route takes (RFC 9110, section 15.5.14)."""

    status = 413
    type = PROBLEM_PREFIX + "body-too-large"
    title = "The request body is too large"


class TargetTooLong(Problem):
    """414: path and query are longer than is served (RFC 9110, section 15.5.15)."""

    status = 414
    type = PROBLEM_PREFIX + "target-too-long"
    title = "The request target is too long"


class UnsupportedMediaType(Problem):
    """415: the body is of a kind or coding that the route does not take (RFC 9110, section 15.5.16)."""

    status = 415
    type = PROBLEM_PREFIX + "unsupported-media-type"
    title = "The kind of the request body is not taken"


class HostNotServed(Problem):
    """421: the Host header names a host that is not served here (RFC 9110, section 15.5.20)."""

    status = 421
    type = PROBLEM_PREFIX + "host-not-served"
    title = "This host is not served here"


class TooManyRequests(Problem):
    """429: the caller is over a rate limit (RFC 6585, section 4)."""

    status = 429
    type = PROBLEM_PREFIX + "too-many-requests"
    title = "Too many requests"


class HeadersTooLarge(Problem):
    """431: the headers together are larger or more than is served (RFC 6585, section 5)."""

    status = 431
    type = PROBLEM_PREFIX + "headers-too-large"
    title = "The request headers are too large"


class ClientGone(Problem):
    """499: the client went away before it was answered (the word of nginx's log; nobody reads the reply)."""

    status = 499
    type = "about:blank"
    title = "The client went away"


class MethodNotImplemented(Problem):
    """501: a method that is not served anywhere (RFC 9110, section 15.6.2)."""

    status = 501
    type = PROBLEM_PREFIX + "method-not-implemented"
    title = "This method is not served here"


class Overloaded(Problem):
    """503: more requests are under way than can be served in time; this one was not begun."""

    status = 503
    type = PROBLEM_PREFIX + "overloaded"
    title = "The service is overloaded"

    def __init__(self, detail: str = "The request was not begun. Send it again later.") -> None:
        super().__init__(detail, headers=((b"retry-after", b"1"),))


class DeadlineExceeded(Problem):
    """504: the reply had not begun when its time was over."""

    status = 504
    type = PROBLEM_PREFIX + "deadline-exceeded"
    title = "The request took too long"

    def __init__(self, detail: str = "It was ended. What it had begun in the database was not committed.") -> None:
        super().__init__(detail)
