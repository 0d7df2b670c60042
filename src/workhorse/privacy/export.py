"""All that is known of a person, for that person (GDPR, article 15; HIPAA, 45 CFR 164.524).

A draft holds every row of every place and every event, with what was sealed opened, and each entry has a number. A
person looks through it before it leaves: what would tell of somebody else is withheld, with the reason. What is
released says how many entries were withheld and why, but not what they were.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, cast
from uuid import UUID

from workhorse.errors import WorkhorseError
from workhorse.privacy.events import EventSealing
from workhorse.privacy.places import Place, split_subject
from workhorse.privacy.subjects import Erased, SubjectCipher, SubjectKeys
from workhorse.sql import load_queries
from workhorse.units import Work

__all__ = ["Draft", "Entry", "Export", "TooMuch", "draft_of"]

MAX_ENTRIES: Final = 1_000_000
PAGE: Final = 5_000
ERASED: Final = "(erased)"
JOURNAL: Final = "events"
CONSENTS: Final = "consents"


class TooMuch(WorkhorseError):
    """More is known of a person than one export takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that is known: a row, an event, a word of consent."""

    number: int
    source: str
    """The table; or `events`, or `consents`."""
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What a person is given."""

    subject: str
    made_at: datetime
    reviewed_by: str
    entries: Sequence[Entry]
    withheld: Sequence[str]
    """Why, once for each entry that is not in it."""

    def as_json(self) -> bytes:
        """For machines (GDPR, article 20: structured, commonly used and machine-readable)."""
        content = {
            "subject": self.subject,
            "made_at": self.made_at.isoformat(),
            "entries": [{"source": entry.source, "facts": entry.facts} for entry in self.entries],
            "withheld": list(self.withheld),
        }
        return json.dumps(content, ensure_ascii=False, indent=1, default=str).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What is known of a person, before somebody has looked through it."""

    subject: str
    made_at: datetime
    entries: Sequence[Entry]

    def release(self, *, reviewed_by: str, withhold: Mapping[int, str] | None = None) -> Export:
        """What leaves.

        Args:
            reviewed_by: who has looked through it.
            withhold: numbers of entries that would tell of somebody else, or must not be told, each with the reason.

        Raises:
            ValueError: nobody has looked through it, or there is no entry of a number, or a reason is missing.
        """
        left_out = dict(withhold or {})
        unknown = left_out.keys() - {entry.number for entry in self.entries}
        if not reviewed_by or unknown or not all(left_out.values()):
            raise ValueError(
                "a release needs who has reviewed it, and a reason for each entry that it withholds; of those there are"
                f" none of the numbers {sorted(unknown)}"
            )
        return Export(
            subject=self.subject,
            made_at=self.made_at,
            reviewed_by=reviewed_by,
            entries=[entry for entry in self.entries if entry.number not in left_out],
            withheld=[left_out[number] for number in sorted(left_out)],
        )

    def as_json(self) -> bytes:
        """The draft as a file, for who reviews it; `read` takes it again."""
        content = {
            "subject": self.subject,
            "made_at": self.made_at.isoformat(),
            "entries": [{"number": one.number, "source": one.source, "facts": one.facts} for one in self.entries],
        }
        return json.dumps(content, ensure_ascii=False, indent=1, default=str).encode()

    @classmethod
    def read(cls, content: bytes) -> "Draft":
        """A draft from its file.

        Raises:
            ValueError: it is none.
        """
        try:
            said = json.loads(content)
            entries = [
                Entry(number=int(one["number"]), source=str(one["source"]), facts=dict(one["facts"]))
                for one in said["entries"]
            ]
            return cls(subject=str(said["subject"]), made_at=datetime.fromisoformat(said["made_at"]), entries=entries)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"this file is no draft of an export: {type(error).__name__}") from None


async def draft_of(
    work: Work, subject: str, places: Sequence[Place], keys: SubjectKeys | None, *, callers: str | None = None
) -> Draft:
    """Gather what is known of a person. Reads only; in a unit of `repeatable read` it is all of one moment.

    Args:
        work: the unit.
        subject: the person, such as `patient/7`.
        places: the app's.
        keys: open what was sealed; None: nothing was.
        callers: the kind of subjects whose key is the principal of requests: their own events are theirs, too.

    Raises:
        TooMuch: there are more than a million entries.
        CannotOpen: something sealed was changed, or the wrapping key is not there.
        ValueError: the subject is malformed.
    """
    kind, key = split_subject(subject)
    try:
        cipher: SubjectCipher | None = None if keys is None else await keys.cipher(work, subject, make=False)
    except Erased:
        cipher = None
    entries: list[Entry] = []

    def add(source: str, facts: Mapping[str, Any]) -> None:
        if len(entries) >= MAX_ENTRIES:
            raise TooMuch(f"more than {MAX_ENTRIES} entries are known of {subject!r}; export them table by table")
        entries.append(Entry(number=len(entries) + 1, source=source, facts=facts))

    about = [subject]
    for place in places:
        if place.person != kind:
            continue
        async for row in _rows(work, place, key):
            add(place.table, _shown(place, row, cipher))
            if place.journal:
                about.append(_filled(place.journal, row))
    queries = load_queries("workhorse.privacy", "sql/queries.sql")
    for (facts,) in await (await work.execute(queries["consents_of"], (subject,))).fetchall():
        add(CONSENTS, _object(facts))
    sealing = EventSealing(keys)
    async for event in _events(work, about, key if callers == kind else None):
        add(JOURNAL, {**event, "data": await sealing.opened(work, event["data"])})
    return Draft(subject=subject, made_at=datetime.now(UTC), entries=entries)


async def _rows(work: Work, place: Place, key: str) -> AsyncIterator[dict[str, Any]]:
    """The rows of a place, a page in memory at a time."""
    cursor = "workhorse_export"
    await work.execute(f"DECLARE {cursor} NO SCROLL CURSOR FOR {place.rows_sql}", (key,))
    while True:
        rows = await (await work.execute(f"FETCH {PAGE} FROM {cursor}")).fetchall()
        for (row,) in rows:
            yield _object(row)
        if len(rows) < PAGE:
            break
    await work.execute(f"CLOSE {cursor}")


async def _events(work: Work, about: Sequence[str], principal: str | None) -> AsyncIterator[dict[str, Any]]:
    queries = load_queries("workhorse.privacy", "sql/queries.sql")
    after = str(UUID(int=0))
    while True:
        page = await (await work.execute(queries["events_about"], (json.dumps(about), principal, after))).fetchall()
        events = [_object(event) for (event,) in page]
        for event in events:
            yield event
        if len(events) < PAGE:
            return
        after = events[-1]["id"]


def _object(value: Any) -> dict[str, Any]:
    """A JSON object of a query. On connections of Django's it comes as text."""
    return cast("dict[str, Any]", json.loads(value) if isinstance(value, str) else value)


def _shown(place: Place, row: Mapping[str, Any], cipher: SubjectCipher | None) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for name, value in row.items():
        if name in place.hidden or name in place.indexes:
            continue
        sealed_as = place.sealed_as(name)
        if sealed_as is not None and value is not None:
            # Postgres says a bytea in JSON as \x and hexadecimal.
            sealed = bytes.fromhex(cast("str", value).removeprefix("\\x"))
            shown[name] = ERASED if cipher is None else cipher.open(sealed_as, sealed)
        else:
            shown[name] = value
    return shown


def _filled(template: str, row: Mapping[str, Any]) -> str:
    for name, value in row.items():
        template = template.replace("{" + name + "}", str(value))
    return template
