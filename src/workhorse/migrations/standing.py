"""Compares what the code brings with what a database has, and says what follows: pure, on values.

Rolling out, old code meets a newer schema. It may run on it: a migration adds, and what takes something away says in
its file which number the code must know (`-- workhorse: needs 0007`). The database keeps that with the record, because
the code that is asked does not have the file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import NamedTuple

from workhorse.errors import StartupError
from workhorse.migrations import Migration, Migrations

__all__ = ["Applied", "Pending", "Place", "Row", "Standing", "compare"]


class Applied(NamedTuple):
    """A record of the database."""

    set_name: str
    number: int
    name: str
    checksum: str
    applied_at: datetime
    needs: int
    """The number of the set that code must know to run on this schema; 0: any code does."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A migration that the database has not seen."""

    migrations: Migrations
    migration: Migration

    def __str__(self) -> str:
        return f"{self.migrations.name} {self.migration.label}"


class Place(Enum):
    """Where a migration is."""

    APPLIED = "applied"
    """In the code and in the database."""
    PENDING = "pending"
    """In the code only."""
    CHANGED = "changed"
    """In both, in different words."""
    NEWER = "newer"
    """In the database only, and this code runs on it."""
    TOO_NEW = "too new"
    """In the database only, and this code does not run on it."""


class Row(NamedTuple):
    """One migration of either side."""

    set_name: str
    number: int
    name: str
    applied_at: datetime | None
    place: Place


@dataclass(frozen=True, slots=True)
class Standing:
    """All migrations of the sets, and of the database those of these sets."""

    rows: tuple[Row, ...]
    pending: tuple[Pending, ...]
    faults: tuple[str, ...]
    """Why this code and this database do not go together; none: they do, once nothing is pending."""

    def require(self) -> None:
        """Insist that code and database go together.

        Raises:
            StartupError: they do not.
        """
        if self.faults:
            raise StartupError("; ".join(self.faults))


def compare(sets: Sequence[Migrations], applied: Sequence[Applied]) -> Standing:
    """Compare the files of the sets with the records of a database. Records of other sets are nobody's concern here.

    Raises:
        StartupError: a file is missing or misnamed.
    """
    rows: list[Row] = []
    pending: list[Pending] = []
    faults: list[str] = []
    for one in sets:
        records = {record.number: record for record in applied if record.set_name == one.name}
        known = one.load()
        for migration in known:
            record = records.pop(migration.number, None)
            if record is None:
                pending.append(Pending(one, migration))
                rows.append(Row(one.name, migration.number, migration.name, None, Place.PENDING))
                continue
            same = record.checksum == migration.checksum
            if not same:
                faults.append(_changed(Pending(one, migration), record))
            place = Place.APPLIED if same else Place.CHANGED
            rows.append(Row(one.name, migration.number, migration.name, record.applied_at, place))
        for record in sorted(records.values(), key=lambda record: record.number):
            runs = record.needs <= len(known)
            if not runs:
                faults.append(_too_new(record, len(known)))
            place = Place.NEWER if runs else Place.TOO_NEW
            rows.append(Row(one.name, record.number, record.name, record.applied_at, place))
    return Standing(tuple(rows), tuple(pending), tuple(faults))


def _changed(one: Pending, record: Applied) -> str:
    if record.name != one.migration.name:
        return (
            f"the migration {one} is not what this database has under its number, {record.number:04d}_{record.name}:"
            " renumber or rename the file, or deploy the code that this database belongs to"
        )
    return (
        f"the migration {one} was changed after this database had applied it, on {record.applied_at:%Y-%m-%d}: restore"
        f" the file (its SHA-256 was {record.checksum[:12]}..., now it is {one.migration.checksum[:12]}...) and write a"
        " new one"
    )


def _too_new(record: Applied, known: int) -> str:
    return (
        f"the database has {record.set_name} {record.number:04d}_{record.name}, on which only code runs that knows"
        f" {record.set_name} {record.needs:04d}, and this code ends at {known:04d}: deploy a newer version"
    )
