"""What is copied of which events.

    CopiedTable("transfers", of="transfer.posted", columns=(Column("currency"), Column("amount", "number")))

A table may get further columns at any time. The new definition is copied from the beginning of the journal, into the
same rows, while the old one goes on: events never change, so in whichever order they come the rows become the same.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, get_args

from workhorse.analytics.measures.measure import path_of
from workhorse.contracts.warehouse import Kind, Shape
from workhorse.errors import SettingsError
from workhorse.journal import EventType
from workhorse.privacy.data_map import personal_members

__all__ = ["Column", "CopiedTable"]

MAX_COLUMNS: Final = 100
EVERY_TABLE: Final = frozenset({"id", "type", "occurred_at", "subject", "second", "own", "starts"})

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,49}\Z")


@dataclass(frozen=True, slots=True)
class Column:
    """A field of the events' data, as a column.

    Args:
        name: of the column.
        kind: `text`, `number` or `json` (see `contracts.warehouse.Kind`).
        path: of the field, `debtor.country` being one in another; by default the name.
        personal: copy the field although it is about people. What is sealed is copied sealed.

    Raises:
        SettingsError: a value is malformed.
    """

    name: str
    kind: Kind = "text"
    path: str = field(default="", kw_only=True)
    personal: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if not _NAME.match(self.name) or "__" in self.name or self.name in EVERY_TABLE:
            raise SettingsError(
                f"the column {self.name!r} is not 1 to 50 of a-z, 0-9 and single '_', a letter first, or it is one of"
                f" {', '.join(sorted(EVERY_TABLE))}"
            )
        if self.kind not in get_args(Kind):
            raise SettingsError(f"the column {self.name!r} has the kind {self.kind!r}; write text, number or json")
        path_of(self.field_path, self.name)

    @property
    def field_path(self) -> str:
        """Where the field is in the data."""
        return self.path or self.name


@dataclass(frozen=True, slots=True)
class CopiedTable:
    """A table of the warehouse, which has a row for each event.

    Args:
        name: of the table, in the engine's schema `warehouse`.
        of: the type of the events, such as `transfer.posted`, or `transfer.*` for all below.
        columns: what is copied of their data.
        subject: whether the events' subject is copied, which often is a person.

    Raises:
        SettingsError: a value is malformed.
    """

    name: str
    of: str = field(kw_only=True)
    columns: Sequence[Column] = field(kw_only=True)
    subject: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if not _NAME.match(self.name) or self.name == "positions":
            raise SettingsError(f"the table {self.name!r} is not 1 to 50 of a-z, 0-9 and '_', a letter first")
        if len(set(names)) != len(names) or not 1 <= len(names) <= MAX_COLUMNS:
            raise SettingsError(
                f"the table {self.name!r} has the columns {names}; it has 1 to {MAX_COLUMNS}, each once"
            )

    @property
    def shape(self) -> Shape:
        """The table as the engine has it. Its definition is named by what it says, so that each has its own place."""
        said = [self.of, str(self.subject), *(f"{c.name} {c.kind} {c.field_path}" for c in self.columns)]
        digest = hashlib.sha256("\n".join(said).encode()).hexdigest()[:12]
        columns: dict[str, Kind] = {column.name: column.kind for column in self.columns}
        return Shape(
            table=self.name, definition=f"warehouse.{self.name}.{digest}", columns=columns, subject=self.subject
        )

    def column_of(self, path: str) -> Column | None:
        """The column that has the field of this path."""
        return next((column for column in self.columns if column.field_path == path), None)

    def check(self, kinds: Mapping[str, EventType[Any]]) -> None:
        """Refuse columns that are about people and do not say that they are meant.

        Raises:
            SettingsError: there are some.
        """
        for kind in kinds.values():
            if kind.name != self.of and not (self.of.endswith(".*") and kind.name.startswith(self.of[:-1])):
                continue
            members = personal_members(kind.schema)
            for column in self.columns:
                class_ = members.get(column.field_path.partition(".")[0])
                if class_ is not None and not column.personal:
                    raise SettingsError(
                        f"the column {column.name!r} of the table {self.name!r} is about people ({class_.value} in"
                        f" {kind.name!r}): leave it out, or say Column(..., personal=True) if it is meant"
                    )
