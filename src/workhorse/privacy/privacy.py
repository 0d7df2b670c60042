"""What an app says of the people that it knows, in one place: `Service(privacy=Privacy(...))`.

From it follow: events whose personal members are sealed, logs and failures of jobs in which personal fields are masked,
jobs that take no personal arguments, the data map, exports, erasures, and retention.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from workhorse.errors import SettingsError
from workhorse.journal.events import Event, EventBox
from workhorse.journal.kinds import EventType
from workhorse.privacy.classes import OF_PERSONS, DataClass
from workhorse.privacy.data_map import DataMap, said_by
from workhorse.privacy.events import EventSealing
from workhorse.privacy.export import Draft, Export, draft_of
from workhorse.privacy.keys import LocalKeys
from workhorse.privacy.places import Keep, Place, split_subject
from workhorse.privacy.retention import Retention
from workhorse.privacy.sealing import BlindIndex
from workhorse.privacy.subjects import SubjectKeys
from workhorse.privacy.visibility import Visibility
from workhorse.units import Work

__all__ = ["Privacy", "Receipt"]


class Declared(Protocol):
    """A job, as far as its arguments go."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def function(self) -> Any:
        """What is called."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What an erasure did."""

    subject: str
    at: datetime
    """When the person's key was destroyed: of a second erasure, when it was at the first. Without keys: when asked."""
    reason: str
    deleted: Mapping[str, int]
    """Rows that are gone, by table."""
    blanked: Mapping[str, int]
    """Rows of which some columns were emptied, by table."""
    kept: Mapping[str, str]
    """Tables whose rows stay, and why."""

    @property
    def text(self) -> str:
        """The receipt in words, a line for each fact, as it can be signed: `Note(receipt.text).sign(signer)`."""
        lines = [
            "workhorse erasure receipt v1",
            f"subject: {self.subject}",
            f"erased: {self.at.isoformat()}",
            f"reason: {self.reason}",
            *(f"deleted from {table}: {rows}" for table, rows in self.deleted.items()),
            *(f"blanked in {table}: {rows}" for table, rows in self.blanked.items()),
            *(f"kept in {table}: {because}" for table, because in self.kept.items()),
        ]
        return "\n".join(lines) + "\n"


class Privacy:
    """What an app knows of people, and how it treats it.

    Args:
        keys: the keys of persons; None: nothing is sealed, and an erasure only deletes and blanks rows.
        models: classes with fields, for the data map and the masking of logs.
        places: tables with rows about people.
        may: for each scope the classes of data that its holders may see.
        retention: what is forgotten when it is old.
        callers: the kind of subjects whose key is the principal of requests, such as `holder`.
        blind_index: of Django's sealed fields, which find it here.

    Raises:
        SettingsError: a model or a place is malformed, or a field holds card numbers.
    """

    def __init__(
        self,
        keys: SubjectKeys | None = None,
        *,
        models: Iterable[type] = (),
        places: Sequence[Place] = (),
        may: Mapping[str, Collection[DataClass]] | None = None,
        retention: Sequence[Retention] = (),
        callers: str | None = None,
        blind_index: BlindIndex | None = None,
    ) -> None:
        self.keys: Final = keys
        self.blind_index: Final = blind_index
        self.models: Final = tuple(models)
        self.places: Final = tuple(places)
        self.retention: Final = tuple(retention)
        self.data_map: Final = DataMap(self.models)
        self.visibility: Final = Visibility(may or {}, models=self.models)
        """Give it to `Tables(privacy=...)`, and ask it for `view`."""
        self.sealing: Final = EventSealing(keys, hidden=self.personal_names)
        self._callers = callers
        sealed = [place.table for place in self.places if place.sealed]
        if sealed and keys is None:
            raise SettingsError(
                f"columns of {', '.join(sealed)} are sealed, and there are no keys: Privacy(SubjectKeys(...))"
            )

    @property
    def personal_names(self) -> frozenset[str]:
        """The names of fields that are about people, which logs mask."""
        return frozenset(field.name for field in self.data_map.of(*OF_PERSONS))

    def check(self, *, events: Iterable[EventType[Any]], jobs: Iterable[Declared], production: bool) -> None:
        """Refuse what would leave personal data where they cannot be erased. A service calls this at its start.

        Raises:
            SettingsError: an event would keep them readable, a job takes them as an argument, or production would keep
                the wrapping key beside the app.
        """
        for kind in events:
            self.sealing.check(kind)
        for job in jobs:
            personal = [name for name, class_ in said_by(job.function).items() if class_ in OF_PERSONS]
            if personal:
                raise SettingsError(
                    f"the job {job.name!r} takes {', '.join(personal)}, which is of a person and would stay in the"
                    " queue's tables and its history: pass an id, and have the job read the rest"
                )
        wrapper = None if self.keys is None else self.keys.wrapper
        if production and isinstance(wrapper, LocalKeys) and not wrapper.dangerously_in_production:
            raise SettingsError(
                "environment is production, and the keys of persons are wrapped by LocalKeys: whoever has a dump and"
                " this process' environment has all of them. Wrap them by a key service (AwsKms, or a KeyWrapper of two"
                " calls), or take the risk: LocalKeys(..., dangerously_in_production=True)"
            )

    async def draft(self, work: Work, subject: str) -> Draft:
        """Gather what is known of a person, for somebody to look through before it leaves.

        Raises:
            TooMuch, CannotOpen, ValueError: as `draft_of`.
        """
        return await draft_of(work, subject, self.places, self.keys, callers=self._callers)

    async def released(self, work: Work, export: Export) -> None:
        """Record that an export left: to whom it is about, by whom it was reviewed, and how much was withheld."""
        facts = {
            "reviewed_by": export.reviewed_by,
            "entries": len(export.entries),
            "withheld": list(export.withheld)[:100],
        }
        await work.put(EventBox, Event.of("audit.subject_exported", subject=export.subject, data=facts))

    async def erase(self, work: Work, subject: str, *, reason: str) -> Receipt:
        """Erase a person: the rows by the rules of their places, and the key of all that was sealed.

        It is recorded as an event, with this unit. To erase somebody twice changes nothing more.

        Args:
            work: the unit.
            subject: the person, such as `patient/7`.
            reason: why, without personal data, since it stays: `request of 2026-03-01`.

        Raises:
            ValueError: the subject is malformed.
        """
        kind, key = split_subject(subject)
        deleted: dict[str, int] = {}
        blanked: dict[str, int] = {}
        kept: dict[str, str] = {}
        for place in self.places:
            if place.person != kind:
                continue
            if isinstance(place.erase, Keep):
                kept[place.table] = place.erase.because
                if place.erase_sql:  # blind indexes of what can be read no more
                    await work.execute(place.erase_sql, place.erase_values(key))
                continue
            rows: int = (await work.execute(place.erase_sql, place.erase_values(key))).rowcount
            counts = blanked if place.erase_sql.startswith("UPDATE") else deleted
            counts[place.table] = counts.get(place.table, 0) + rows
        at = datetime.now(UTC)
        if self.keys is not None:
            erasure = await self.keys.erase(work, subject, reason=reason)
            at, reason = erasure.destroyed_at, erasure.reason
        receipt = Receipt(
            subject=subject,
            at=at,
            reason=reason,
            deleted=deleted,
            blanked=blanked,
            kept=kept,
        )
        facts = {"reason": receipt.reason, "deleted": deleted, "blanked": blanked, "kept": kept}
        await work.put(EventBox, Event.of("audit.subject_erased", subject=subject, data=facts))
        return receipt
