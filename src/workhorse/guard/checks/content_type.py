"""What a body says it is: parsed once, strictly, before anything chooses a parser by it.

A route that names the types it takes gets no others. Everywhere else the header must still be one media type that can
be read in one way only: no list, no parameter twice. What comes out chooses what looks into the body as it streams
(`json_shape`, `multipart`), so those and the app agree on what it is.

The few values that nearly all clients send are known beforehand, and cost one look-up.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from workhorse.errors import Problem
from workhorse.guard.facts import Facts
from workhorse.guard.problems import MalformedRequest, UnsupportedMediaType
from workhorse.guard.verdict import Refusal

__all__ = ["FORM", "UNTYPED", "MediaType", "TypedBody", "check_content_type", "parse_media_type"]

FORM: Final = b"application/x-www-form-urlencoded"

# RFC 9110, sections 5.6.2 to 5.6.6 and 8.3.1.
_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_QUOTED: Final = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"'
_MEDIA_TYPE: Final = re.compile(
    rb"(%b/%b)((?:[ \t]*+;[ \t]*+(?:%b=(?:%b|%b))?+)*+)[ \t]*+" % (_TOKEN, _TOKEN, _TOKEN, _TOKEN, _QUOTED)
).fullmatch
_PARAMETERS: Final = re.compile(rb";[ \t]*+(%b)=(%b|%b)" % (_TOKEN, _TOKEN, _QUOTED)).findall

_JSON_SUBTYPES: Final = frozenset({b"json", b"x-json"})
# The last one is a subset of the first.
_CHARSETS: Final = frozenset({b"utf-8", b"utf8", b"us-ascii"})


class MediaType(NamedTuple):
    """What a body says it is."""

    essence: bytes
    """Type and subtype in lower case; empty where nothing is said."""
    is_json: bool = False
    """`application/json`, and whatever ends in `+json` (RFC 6839)."""
    charset: bytes = b""
    """In lower case; empty where nothing is said."""
    boundary: bytes = b""
    """Of a multipart body; empty where nothing is said."""

    @property
    def is_multipart(self) -> bool:
        """Whether it has parts (RFC 2046, section 5.1)."""
        return self.essence.startswith(b"multipart/")


UNTYPED: Final = MediaType(b"")

_JSON: Final = MediaType(b"application/json", is_json=True)
_JSON_UTF8: Final = MediaType(b"application/json", is_json=True, charset=b"utf-8")

_KNOWN: Final[Mapping[bytes, MediaType]] = {
    b"application/json": _JSON,
    b"application/json; charset=utf-8": _JSON_UTF8,
    b"application/json;charset=utf-8": _JSON_UTF8,
    b"application/json; charset=UTF-8": _JSON_UTF8,
    b"application/json;charset=UTF-8": _JSON_UTF8,
    FORM: MediaType(FORM),
    b"application/octet-stream": MediaType(b"application/octet-stream"),
    b"application/xml": MediaType(b"application/xml"),
}


def parse_media_type(value: bytes) -> MediaType | None:
    """Parse a Content-Type (RFC 9110, section 8.3.1); None if it is malformed or has a parameter twice."""
    match = _MEDIA_TYPE(value)
    if match is None:
        return None
    essence: bytes = match[1].lower()
    found: dict[bytes, bytes] = {}
    for name, given in _PARAMETERS(match[2]):
        key = name.lower()
        if key in found:
            return None
        # A backslash stays: no charset and no boundary that is taken has one.
        found[key] = given[1:-1] if given.startswith(b'"') else given
    subtype = essence.partition(b"/")[2]
    return MediaType(
        essence,
        is_json=subtype in _JSON_SUBTYPES or subtype.endswith(b"+json"),
        charset=found.get(b"charset", b"").lower(),
        boundary=found.get(b"boundary", b""),
    )


def check_content_type(facts: Facts, accepted: frozenset[bytes] | None) -> MediaType | Refusal:
    """Refuse a body of a type that the route does not take, or that says what it is in an ambiguous way.

    Threat: a body that one reader takes for one thing and the next for another, so that what the first let pass does
        harm to the second (CWE-436, CWE-20), a charset that hides it (CWE-838), and a form that a page may send
        where only JSON is meant to be taken (CWE-352).
    Method: one media type, no parameter twice. The type must be on the route's list, if it has one; `image/*` and
        `application/*+json` there stand for a range. JSON and forms must be UTF-8.
    Assumes: the app chooses its parser by the type. One that reads any body as JSON should name its types. A body
        without a type is the inspector's (`TypedBody`), as nobody knows yet whether there is one.
    Standard: RFC 9110, sections 8.3, 8.3.1 and 15.5.16; RFC 8259, section 8.1; OWASP ASVS 5.0.0 V1.5.3, V2.2.1 and
        V4.1.1.

    Args:
        facts: the request.
        accepted: the types that the route takes, in lower case; None: any.

    Returns:
        What the body is, for those that look into it.
    """
    value = facts.headers.get(b"content-type")
    if value is None:
        if accepted is not None and facts.headers.get(b"content-length", b"0") != b"0":
            return Refusal("content_type.missing", _refuse("The body says not of what kind it is.", accepted))
        return UNTYPED
    kind = _KNOWN.get(value)
    if kind is None:
        kind = parse_media_type(value)
        if kind is None:
            return Refusal("content_type.malformed", MalformedRequest("Content-Type is not one media type."))
        if kind.charset and kind.charset not in _CHARSETS and (kind.is_json or kind.is_multipart or _is_form(kind)):
            return Refusal("content_type.charset", UnsupportedMediaType("Only UTF-8 is taken."))
    if accepted is not None and kind.essence not in accepted and not _in_range(kind.essence, accepted):
        return Refusal("content_type.not_taken", _refuse("A body of this kind is not taken here.", accepted))
    return kind


class TypedBody:
    """Refuses a body that says not what it is, once a byte of it comes.

    For a route that names the types it takes, and a request without Content-Type and Content-Length, of which only
    HTTP/1 tells beforehand whether it has a body.
    """

    __slots__ = ("_accepted", "control")

    def __init__(self, accepted: frozenset[bytes]) -> None:
        self.control = "content_type.missing"
        self._accepted = accepted

    def feed(self, chunk: bytes, *, last: bool) -> bytes:  # noqa: ARG002 - the words of every inspector
        """Take the next bytes.

        Raises:
            Problem: there are any.
        """
        if chunk:
            raise _refuse("The body says not of what kind it is.", self._accepted)
        return chunk


def _is_form(kind: MediaType) -> bool:
    return kind.essence == FORM


def _in_range(essence: bytes, accepted: frozenset[bytes]) -> bool:
    main, _, subtype = essence.partition(b"/")
    if main + b"/*" in accepted:
        return True
    _, plus, suffix = subtype.rpartition(b"+")
    return bool(plus) and main + b"/*+" + suffix in accepted


def _refuse(detail: str, accepted: frozenset[bytes]) -> Problem:
    # RFC 9110, section 15.5.16: Accept in a reply says what a next request may hold.
    return UnsupportedMediaType(detail, headers=((b"accept", b", ".join(sorted(accepted))),))
