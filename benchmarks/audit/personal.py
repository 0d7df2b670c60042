"""What privacy costs: a field that is sealed under a person's key, and the export and erasure of a person's events."""

import asyncio
import secrets
import time
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from benchmarks.processes import MeasurementError
from workhorse.journal.kinds import EventType, EventTypes
from workhorse.privacy import PERSONAL, LocalKeys, Privacy, SubjectKeys
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.units import Unit

__all__ = ["FieldTimes", "PersonTimes", "time_fields", "time_person"]

TEXT: Final = "Alexandra Constantinopoulos, 14 Rue de la Paix"
FIELD: Final = "patients.name"
PERSON: Final = "patient/7"
UNIT_SECONDS: Final = 600.0
AT_ONCE: Final = 1_000


class Seen(msgspec.Struct):
    """An event about a person, with one member that is personal."""

    name: Annotated[str, PERSONAL]
    ward: str


SEEN: Final = EventType("patient.seen", Seen, person="{subject}")


@dataclass(frozen=True, slots=True)
class FieldTimes:
    """Of one field of a person whose key is known."""

    seal_us: float
    open_us: float


@dataclass(frozen=True, slots=True)
class PersonTimes:
    """Of one person."""

    events: int
    export_seconds: float
    erase_seconds: float


def _privacy() -> Privacy:
    return Privacy(SubjectKeys(LocalKeys([secrets.token_bytes(32)])))


async def time_fields(url: str, *, fields: int) -> FieldTimes:
    """Seal and open a text so many times.

    Raises:
        MeasurementError: what was opened is another text.
    """
    database = PostgresDatabase(url, pool_max=2)
    await database.open()
    keys = _privacy().keys
    assert keys is not None
    try:
        async with Unit(database) as work:
            cipher = await keys.cipher(work, "patient/1")
    finally:
        await database.close()
    began = time.perf_counter()
    sealed = [cipher.seal(FIELD, TEXT) for _ in range(fields)]
    seal = time.perf_counter() - began
    began = time.perf_counter()
    opened = [cipher.open(FIELD, one) for one in sealed]
    took = time.perf_counter() - began
    if set(opened) != {TEXT}:
        raise MeasurementError("what was opened is not what was sealed")
    return FieldTimes(seal * 1e6 / fields, took * 1e6 / fields)


async def time_person(url: str, *, events: int) -> PersonTimes:
    """Export a person of so many sealed events, and erase the person.

    Raises:
        MeasurementError: the export has another number of events, or the person can still be read.
    """
    privacy = _privacy()
    kinds = EventTypes([SEEN], sealing=privacy.sealing)
    database = PostgresDatabase(url, pool_max=2, statement_timeout_seconds=UNIT_SECONDS)
    await database.open()
    try:
        for first in range(0, events, AT_ONCE):
            async with Unit(database, deadline_seconds=UNIT_SECONDS, events=kinds) as work:
                for number in range(first, min(first + AT_ONCE, events)):
                    await work.emit(SEEN, subject=PERSON, data=Seen(name=f"Jane {number}", ward="B"))
        began = time.perf_counter()
        async with Unit(database, isolation="repeatable read", deadline_seconds=UNIT_SECONDS) as work:
            draft = await privacy.draft(work, PERSON)
        content = draft.release(reviewed_by="benchmark").as_json()
        export = time.perf_counter() - began
        if len(draft.entries) != events or content.count(b"Jane ") != events:
            raise MeasurementError(f"the export has {len(draft.entries)} entries of {events}")
        began = time.perf_counter()
        async with Unit(database, deadline_seconds=UNIT_SECONDS) as work:
            await privacy.erase(work, PERSON, reason="benchmark")
        erase = time.perf_counter() - began
        async with Unit(database, deadline_seconds=UNIT_SECONDS) as work:
            after = await privacy.draft(work, PERSON)
        if b"Jane " in await asyncio.to_thread(after.as_json):
            raise MeasurementError("the erased person can still be read")
    finally:
        await database.close()
    return PersonTimes(events, export, erase)
