"""What a route writes into the journal about each of its requests, and about whom.

    Policy("GET /patients/{patient}", scope="records:read", audit=Audit(subject="patient:{patient}", fail_closed=True))
    Policy("POST /transfers", audit=Audit("transfer", subject="account:{body.debtor}"))
    Policy("POST /accounts", audit=Audit("account.opening", subject="account:{reply.id}"))

A subject is a template. `{name}` is a parameter of the policy's path; `{body.name}` and `{reply.name}` are members of a
JSON object that the request or the reply has, with more dots for objects within. What is not there, as in a request
that was refused before its body was read, stands as `?`: a record is never lost for want of a name.
"""

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, cast
from urllib.parse import quote

import msgspec

from workhorse.errors import SettingsError

__all__ = ["MAX_AUDITED_SUBJECT", "Audit", "Template", "as_subject", "compile_subject"]

MAX_AUDITED_SUBJECT: Final = 200
"""Characters: what the journal takes."""
MAX_ACTION: Final = 100
UNKNOWN: Final = "?"
"""What stands for a value that a request did not have."""

_HOLE: Final = re.compile(r"\{([^{}]*)\}")
_NAME: Final = re.compile(r"[A-Za-z_]\w*\Z")
_MEMBER: Final = re.compile(r"(?P<where>body|reply)(?P<path>(\.[A-Za-z_]\w*)+)\Z")

Where = Literal["path", "body", "reply"]


@dataclass(frozen=True, slots=True)
class Audit:
    """What is recorded of a route's requests.

    Args:
        action: what is done, in the app's own words, such as `transfer`; by default the policy's pattern.
        subject: whom or what it is done to, as a template (see the module); by default the parameters of the path.
        fail_closed: send no reply before its record is stored: the client gets 503 where it cannot be. A record of a
            unit commits with it either way; this is for requests that have no unit, or whose unit was rolled back.
        reads: whether its requests only read, and leave an `audit.read`; None: by the method, GET and HEAD do.
        models: SQLAlchemy classes of which each row that the unit writes is recorded, before and after.

    Raises:
        SettingsError: the action or the template is malformed.
    """

    action: str = ""
    subject: str = field(default="", kw_only=True)
    fail_closed: bool = field(default=False, kw_only=True)
    reads: bool | None = field(default=None, kw_only=True)
    models: Sequence[type] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        if len(self.action) > MAX_ACTION or not (self.action.isprintable()):
            raise SettingsError(
                f"audit has the action {self.action!r}; it is at most {MAX_ACTION} printable characters"
            )
        if not self.subject.isprintable() or len(self.subject) > MAX_AUDITED_SUBJECT:
            raise SettingsError(
                f"audit has the subject {self.subject[:220]!r}; at most {MAX_AUDITED_SUBJECT} printable characters"
            )
        if type(self.fail_closed) is not bool:
            raise SettingsError(f"audit has fail_closed={self.fail_closed!r}; it is True or False")
        if not all(inspect.isclass(model) for model in self.models):
            raise SettingsError(f"audit has models={self.models!r}; it is a list of classes")


class Part(NamedTuple):
    """One hole of a template, and the text before it."""

    before: str
    where: Where
    names: tuple[str, ...]
    segment: int
    """Of the path; -1: it is of the body or the reply."""


@dataclass(frozen=True, slots=True)
class Template:
    """A subject, ready to be filled."""

    parts: tuple[Part, ...]
    rest: str
    needs_body: bool
    needs_reply: bool

    def fill(self, path: str, *, body: bytes | None = None, reply: bytes | None = None) -> str:
        """The subject of one request, as the journal takes it.

        Args:
            path: as the policy was found by.
            body: of the request; None where it was not read.
            reply: its body; None where there is none, or it was a stream.
        """
        segments = path.split("/")[1:] if self.parts else []
        said = _object_of(body if self.needs_body else None)
        answered = _object_of(reply if self.needs_reply else None)
        filled: list[str] = []
        for part in self.parts:
            filled.append(part.before)
            if part.where == "path":
                filled.append(_segment(segments, part))
            else:
                filled.append(_member(said if part.where == "body" else answered, part.names))
        filled.append(self.rest)
        return as_subject("".join(filled))


def compile_subject(template: str, segments: Sequence[str]) -> Template:
    """Make a template ready.

    Args:
        template: as in `Audit.subject`; empty: the path's parameters, or the path where it has none.
        segments: of the policy's path.

    Raises:
        SettingsError: it has a hole that is none, or names a parameter that the path has not.
    """
    places = {segment[1:-1].partition(":")[0]: place for place, segment in enumerate(segments) if segment[:1] == "{"}
    rests = {segment[1:-1].partition(":")[0] for segment in segments if segment.endswith(":path}")}
    if not template:
        template = "/".join(f"{{{name}}}" for name in places) or "/" + "/".join(segments)
    parts: list[Part] = []
    end = 0
    for hole in _HOLE.finditer(template):
        before, name = template[end : hole.start()], hole[1]
        end = hole.end()
        member = _MEMBER.match(name)
        if member is not None:
            where: Where = "body" if member["where"] == "body" else "reply"
            parts.append(Part(before, where, tuple(member["path"].split(".")[1:]), -1))
        elif _NAME.match(name) and name in places:
            parts.append(Part(before, "path", ("rest",) if name in rests else (), places[name]))
        else:
            raise SettingsError(
                f"its audit has the subject {template!r}, in which {hole[0]!r} is neither a parameter of the path"
                f" ({', '.join(places) or 'it has none'}) nor a member such as {{body.id}} or {{reply.id}}"
            )
    rest = template[end:]
    if any("{" in text or "}" in text for text in (rest, *(part.before for part in parts))):
        raise SettingsError(f"its audit has the subject {template!r}, whose braces do not match")
    return Template(
        tuple(parts),
        rest,
        any(part.where == "body" for part in parts),
        any(part.where == "reply" for part in parts),
    )


def _segment(segments: Sequence[str], part: Part) -> str:
    if part.segment >= len(segments):
        return UNKNOWN
    return "/".join(segments[part.segment :]) if part.names else segments[part.segment]


def _object_of(content: bytes | None) -> Mapping[str, object]:
    if not content:
        return {}
    try:
        return msgspec.json.decode(content, type=dict[str, object])
    except (msgspec.DecodeError, RecursionError):
        return {}


def _member(content: Mapping[str, object], names: Sequence[str]) -> str:
    value: object = content
    for name in names:
        value = cast("Mapping[str, object]", value).get(name) if isinstance(value, dict) else None
    # A subject is an id. An object or a truth is none.
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value) or UNKNOWN
    return UNKNOWN


def as_subject(text: str) -> str:
    """The text as the journal takes it: what is not printable is percent-encoded, what is too long cut."""
    if not text.isprintable():
        text = "".join(
            char if char.isprintable() else quote(char.encode("utf-8", "replace"))
            for char in text[:MAX_AUDITED_SUBJECT]
        )
    return text[:MAX_AUDITED_SUBJECT] or UNKNOWN
