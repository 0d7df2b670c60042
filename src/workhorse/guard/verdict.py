"""What a check says: nothing, which admits the request, or a refusal that names the control."""

from typing import NamedTuple

from workhorse.errors import PROBLEM_PREFIX, Problem

__all__ = ["BodyTooLarge", "HeadersTooLarge", "HostNotServed", "MalformedRequest", "Refusal", "TargetTooLong"]


class Refusal(NamedTuple):
    """A request that is not let in.

    `control` is for the operator: one word, the same in the log line and in the metric. `problem` is for the
    client, and tells no more than it needs.
    """

    control: str
    problem: Problem


class MalformedRequest(Problem):
    """400: the request is one that two readers could understand in two ways."""

    status = 400
    type = PROBLEM_PREFIX + "malformed-request"
    title = "The request is malformed"


class HostNotServed(Problem):
    """421: the Host header names a host that is not served here (RFC 9110, section 15.5.20)."""

    status = 421
    type = PROBLEM_PREFIX + "host-not-served"
    title = "This host is not served here"


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


class HeadersTooLarge(Problem):
    """431: the headers together are longer than is served (RFC 6585, section 5)."""

    status = 431
    type = PROBLEM_PREFIX + "headers-too-large"
    title = "The request headers are too large"
