"""What events say of people, sealed by itself: an event is for ever, so only its key can be erased.

    called = EventType("patient.called", Called, person="patient/{subject}")

The members of `Called` that are about people go into the journal encrypted under that person's key:

    {"at": "2026-03-01T10:00Z", "phone": {"$sealed": ["patient/7", "patient.called.phone", "AQxk..."]}}

Relays, measures and the audit log see the event as it is there. Who may know opens it with `opened` or `read`; of an
erased person the sealed members are null for `opened`, and `read` raises.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Collection, Mapping
from typing import Any, Final, TypeVar, cast

import msgspec

from workhorse.errors import SettingsError
from workhorse.journal.events import MAX_DATA_BYTES
from workhorse.journal.kinds import EventMalformed, EventType, HasData
from workhorse.privacy.data_map import personal_members
from workhorse.privacy.sealing import CannotOpen
from workhorse.privacy.subjects import Erased, SubjectCipher, SubjectKeys
from workhorse.telemetry.redaction import MASK
from workhorse.units import Work

__all__ = ["SEALED", "EventSealing"]

SEALED: Final = "$sealed"

T = TypeVar("T")

_HOLE: Final = re.compile(r"\{([^{}]*)\}")
_decode: Final = msgspec.json.decode
_encode: Final = msgspec.json.encode


class EventSealing:
    """Seals and opens events.

    Args:
        keys: of the persons; None: nothing is sealed here, and events say nothing of persons.
        hidden: names of columns that records of changed rows do not show.
    """

    def __init__(self, keys: SubjectKeys | None, *, hidden: Collection[str] = ()) -> None:
        self._keys = keys
        self._hidden = frozenset(hidden)
        self._members: dict[str, frozenset[str]] = {}

    def check(self, kind: EventType[Any]) -> None:
        """Refuse a kind that would leave what is personal readable for ever, or that names a person for nothing.

        Raises:
            SettingsError: it does; the message has the members.
        """
        members = personal_members(kind.schema)
        if members and not kind.person:
            listed = ", ".join(f"{name} ({class_.value})" for name, class_ in members.items())
            raise SettingsError(
                f"the event type {kind.name!r} says of a person: {listed}. The journal is for ever, so say whose key"
                " they are sealed under: EventType(..., person='patient/{subject}'), or leave them out of the event"
            )
        if kind.person and not members:
            raise SettingsError(
                f"the event type {kind.name!r} names a person and says nothing of one: give the members of its schema"
                " their classes, as in Annotated[str, PERSONAL], or take person= out"
            )
        if members and self._keys is None:
            raise SettingsError(
                f"the event type {kind.name!r} is sealed, and there are no keys: Privacy(SubjectKeys(...))"
            )
        self._members[kind.name] = frozenset(members)

    async def seal(self, work: Work, kind: EventType[Any], subject: str, data: bytes) -> bytes:
        """The data of an event as they go into the journal.

        Raises:
            Erased: the person was.
            ValueError: the person's name cannot be made of the event, or what is sealed is too large.
        """
        if kind.name not in self._members:
            self.check(kind)
        members = self._members[kind.name]
        if not members or self._keys is None:
            return data
        content: dict[str, Any] = _decode(data)
        person = _person(kind, subject, content)
        cipher = await self._keys.cipher(work, person)
        for name in members & content.keys():
            if content[name] is not None:
                as_ = f"{kind.name}.{name}"
                sealed = cipher.seal(as_, _encode(content[name]).decode())
                content[name] = {SEALED: [person, as_, b64encode(sealed).decode()]}
        encoded = _encode(content)
        if len(encoded) > MAX_DATA_BYTES:
            raise ValueError(
                f"the data of the event {kind.name!r} have {len(encoded)} bytes once sealed; at most {MAX_DATA_BYTES}"
                " are taken. Keep what is larger elsewhere, and its id in the event"
            )
        return encoded

    async def opened(self, work: Work, data: Mapping[str, Any]) -> dict[str, Any]:
        """The data of an event with what is sealed opened; null where the person was erased.

        Raises:
            CannotOpen: it was changed, or the wrapping key is not there.
        """
        return {name: await self._open(work, value, or_none=True) for name, value in data.items()}

    async def read(self, work: Work, kind: EventType[T], event: HasData) -> T:
        """The data of an event, of whichever version, as its schema has them.

        Raises:
            Erased: the person was.
            CannotOpen: it was changed, or the wrapping key is not there.
            EventKindUnknown, EventVersionUnknown, EventMalformed: as `EventType.read`.
        """
        data = kind.newest_of(event)
        opened = {name: await self._open(work, value, or_none=False) for name, value in data.items()}
        try:
            return msgspec.convert(opened, kind.schema)
        except msgspec.ValidationError:
            raise EventMalformed(f"the data of an event {kind.name!r} do not fit its schema once opened") from None

    def hide(self, values: Mapping[str, object]) -> Mapping[str, object]:
        """Columns of a row that has changed, with those masked that are about people: records of changes stay."""
        return {name: MASK if name in self._hidden and value is not None else value for name, value in values.items()}

    async def _open(self, work: Work, value: Any, *, or_none: bool) -> Any:
        holder = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        if holder.keys() != {SEALED}:
            return cast("Any", value)
        try:
            person, as_, text = holder[SEALED]
            sealed = b64decode(text, validate=True)
        except (TypeError, ValueError):
            raise CannotOpen("a sealed member of an event is malformed") from None
        if self._keys is None:
            raise CannotOpen("a member of an event is sealed, and there are no keys here")
        try:
            cipher: SubjectCipher = await self._keys.cipher(work, person, make=False)
        except Erased:
            if or_none:
                return None
            raise
        return _decode(cipher.open(as_, sealed))


def _person(kind: EventType[Any], subject: str, content: Mapping[str, Any]) -> str:
    def fill(hole: re.Match[str]) -> str:
        if hole[1] == "subject":
            return subject
        value = content.get(hole[1])
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise ValueError(f"the event {kind.name!r} has no {hole[1]!r} to name its person by; it is {kind.person!r}")
        return str(value)

    return _HOLE.sub(fill, kind.person)
