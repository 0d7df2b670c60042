"""Kinds of events with a schema and a version, and how old events become new ones.

    class Posted(msgspec.Struct):
        amount: Decimal
        currency: str

    posted = EventType("transfer.posted", Posted, version=2, upcasts={1: lambda data: {**data, "currency": "EUR"}})
    service = Service(app, events=[posted])

    await work.emit(posted, subject=account, data=Posted(Decimal("5"), "EUR"))     checked, and typed
    posted.read(event).amount                                                      whichever version it was written in

An event is never rewritten: the journal is append-only, and sealed. So a reader makes the newest shape of what it
reads, one version after the other. The version stands in the data, as the member `$v`, where the audit log covers it
and every relay passes it on; data without it are of version 1.

What is emitted is encoded, and read again by the schema: about a microsecond, and it fails with the line that emitted
it on the stack. Schemas are what msgspec reads: `msgspec.Struct`, dataclasses, `TypedDict`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from workhorse.errors import SettingsError, WorkhorseError

__all__ = [
    "VERSION",
    "EventKindUnknown",
    "EventMalformed",
    "EventType",
    "EventTypes",
    "EventVersionUnknown",
    "HasData",
    "Sealing",
    "Upcast",
]

VERSION: Final = "$v"
"""The member of an event's data that says its version, where that is not 1."""

MAX_VERSION: Final = 10_000

T = TypeVar("T")

Upcast = Callable[[dict[str, Any]], dict[str, Any]]
"""Makes of the data of one version those of the next. It is given a copy, and must depend on nothing else."""


class EventMalformed(WorkhorseError, ValueError):
    """The data of an event are not what its schema says."""


class EventKindUnknown(WorkhorseError, ValueError):
    """An event of a kind that was not declared."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(
            f"the event type {name!r} is not declared, and this service declares its events: add an EventType to"
            f" Service(events=[...]), which has {', '.join(sorted(known)) or 'none'}"
        )


class EventVersionUnknown(WorkhorseError):
    """An event of a version that this code does not know: it was written by newer code."""

    def __init__(self, name: str, found: object, newest: int) -> None:
        super().__init__(
            f"an event {name!r} is of version {found!r}, and this code knows 1 to {newest}: newer code wrote it. Roll"
            " out readers of a new version before its writers"
        )


class HasData(Protocol):
    """An event as a feed gives it."""

    @property
    def type(self) -> str:
        """Its kind."""
        ...

    @property
    def data(self) -> Mapping[str, Any]:
        """Its facts."""
        ...


class EventType(Generic[T]):
    """One kind of events.

    Args:
        name: in dotted lower case, such as `transfer.posted`; it never changes.
        schema: of the newest version's data, which is an object.
        version: the newest.
        upcasts: for each older version, what makes the next one of it.
        person: whose key the members are sealed under that the schema says are about people, with `{subject}` or a
            member of the data in braces: `patient/{subject}`. It needs a `Service(privacy=...)`.

    Raises:
        SettingsError: the schema is none, or an upcast is missing or one too many.
    """

    __slots__ = ("_decoder", "_upcasts", "name", "person", "schema", "version")

    def __init__(
        self,
        name: str,
        schema: type[T],
        *,
        version: int = 1,
        upcasts: Mapping[int, Upcast] | None = None,
        person: str = "",
    ) -> None:
        given = dict(upcasts or {})
        if not 1 <= version <= MAX_VERSION:
            raise SettingsError(f"the event type {name!r} has version={version}; it is 1 to {MAX_VERSION}")
        if set(given) != set(range(1, version)):
            raise SettingsError(
                f"the event type {name!r} is of version {version} and has upcasts for {sorted(given) or 'none'}: events"
                f" of every version from 1 to {version - 1} are in the journal for good, so each needs one"
            )
        try:
            self._decoder = msgspec.json.Decoder(schema)
            fields: tuple[str, ...] = tuple(
                getattr(field, "encode_name", "") for field in getattr(msgspec.inspect.type_info(schema), "fields", ())
            )
        except TypeError as error:
            raise SettingsError(f"the event type {name!r} has a schema that msgspec cannot read: {error}") from None
        if VERSION in fields:
            raise SettingsError(f"the event type {name!r} has a member {VERSION!r}, where the version stands")
        self.name: Final = name
        self.schema: Final = schema
        self.version: Final = version
        self.person: Final = person
        self._upcasts: Final = given

    def __repr__(self) -> str:
        return f"<EventType {self.name} of version {self.version}>"

    def checked(self, encoded: bytes) -> bytes:
        """The data, as JSON, with the version; refused where the schema says otherwise.

        Raises:
            EventMalformed: they are not what the schema says. The message has the member.
        """
        try:
            self._decoder.decode(encoded)
        except msgspec.ValidationError as error:
            raise EventMalformed(f"the data of the event {self.name!r}, version {self.version}: {error}") from None
        if self.version == 1:
            return encoded
        separator = b"" if encoded == b"{}" else b","
        return b'{"%b":%d%b%b' % (VERSION.encode(), self.version, separator, encoded[1:])

    def newest(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """The data as the newest version has them.

        Raises:
            EventVersionUnknown: they are of a newer one.
        """
        made = dict(data)
        found = made.pop(VERSION, 1)
        if type(found) is not int or not 1 <= found <= self.version:
            raise EventVersionUnknown(self.name, found, self.version)
        for version in range(found, self.version):
            made = self._upcasts[version](made)
        return made

    def read(self, event: HasData) -> T:
        """The data of an event, of whichever version, as the schema has them.

        Raises:
            EventKindUnknown: it is of another kind.
            EventVersionUnknown: it is of a newer version.
            EventMalformed: it is not what the schema says, as one that was written before there was a schema.
        """
        try:
            return msgspec.convert(self.newest_of(event), self.schema)
        except msgspec.ValidationError as error:
            raise EventMalformed(f"the data of an event {self.name!r} in the journal: {error}") from None

    def newest_of(self, event: HasData) -> Mapping[str, Any]:
        """The data of an event, of whichever version, as the newest has them.

        Raises:
            EventKindUnknown: it is of another kind.
            EventVersionUnknown: it is of a newer version.
        """
        if event.type != self.name:
            raise EventKindUnknown(event.type, [self.name])
        return event.data if isinstance(event.data, Newest) else self.newest(event.data)


class Newest(dict[str, Any]):
    """Data that were made those of the newest version."""


class Sealing(Protocol):
    """Seals what events say of people (see `workhorse.privacy`)."""

    async def seal(self, work: Any, kind: EventType[Any], subject: str, data: bytes, /) -> bytes:
        """The data of an event, JSON, as they go into the journal. `work` is the unit that emits it."""
        ...

    def hide(self, values: Mapping[str, object], /) -> Mapping[str, object]:
        """Columns of a row that has changed, with those masked that are about people."""
        ...


class EventTypes(Mapping[str, EventType[Any]]):
    """The kinds of events of a service.

    Args:
        types: the kinds.
        sealing: seals what they say of people.

    Raises:
        SettingsError: two have one name, or one names a person and nothing seals.
    """

    def __init__(self, types: Iterable[EventType[Any]] = (), *, sealing: Sealing | None = None) -> None:
        self._types: dict[str, EventType[Any]] = {}
        self.sealing: Final = sealing
        for kind in types:
            if self._types.setdefault(kind.name, kind) is not kind:
                raise SettingsError(f"the event type {kind.name!r} is declared twice; keep one")
            if kind.person and sealing is None:
                raise SettingsError(
                    f"the event type {kind.name!r} is sealed under the key of {kind.person!r}, and this service has no"
                    " keys: give it Service(privacy=Privacy(SubjectKeys(...)))"
                )

    def __getitem__(self, name: str) -> EventType[Any]:
        """The kind of this name."""
        return self._types[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def __len__(self) -> int:
        return len(self._types)

    def declared(self, name: str) -> EventType[Any] | None:
        """The kind of this name; None where nothing is declared at all, or the kind is Workhorse's own (`audit.`).

        Raises:
            EventKindUnknown: others are declared, and this one is not.
        """
        kind = self._types.get(name)
        if kind is None and self._types and not name.startswith("audit."):
            raise EventKindUnknown(name, self._types)
        return kind

    def newest(self, name: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """The data as the newest version of their kind has them; of a kind that is not declared, as they are.

        Raises:
            EventVersionUnknown: they are of a newer one.
        """
        kind = self._types.get(name)
        return data if kind is None else Newest(kind.newest(data))
