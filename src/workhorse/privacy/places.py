"""Where an app keeps what it knows of people, and what becomes of it when one of them is erased.

    Place("surgery.phones", person="patient", column="number", erase=Delete(), sealed=["phone"])
    Place("surgery.bills", person="patient", column="patient", erase=Keep("§ 147 AO: ten years from the bill"))

A subject such as `patient/7` has a kind and a key. A place says in which table, and in which column, rows of that kind
carry the key. What the law wants kept is kept, and the receipt of an erasure says so with the reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from workhorse.errors import SettingsError
from workhorse.privacy.columns import sealed_columns
from workhorse.sql import quoted_name

__all__ = ["Blank", "Delete", "Keep", "Place", "Rule", "split_subject"]

MAX_REASON: Final = 500


@dataclass(frozen=True, slots=True)
class Delete:
    """The rows go."""


@dataclass(frozen=True, slots=True)
class Blank:
    """The rows stay, with other values in these columns."""

    columns: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Keep:
    """The rows stay as they are, since a law or a contract wants them."""

    because: str


Rule: TypeAlias = Delete | Blank | Keep


@dataclass(frozen=True, slots=True)
class Place:
    """One table that knows of people.

    Args:
        table: `name` or `schema.name`.
        person: the kind of subject, as in `patient/7`.
        column: that has the subject's key.
        erase: what becomes of the rows at an erasure.
        sealed: columns that hold what a `SubjectCipher` sealed under the name `table.column`; or a dict of columns and
            the names that they were sealed under.
        indexes: columns with blind indexes of what is sealed. Whatever the rule, an erasure empties them: they would
            still tell who had the same. No export shows them.
        hidden: columns that no export shows, such as hashes of passwords.
        journal: names the subject of events about a row: `account:{iban}`, with the row's columns in braces. Events
            about the person, as `patient/7`, are found without it.

    Raises:
        SettingsError: a name is none, or a reason is missing.
    """

    table: str
    person: str = field(kw_only=True)
    column: str = field(kw_only=True)
    erase: Rule = field(kw_only=True)
    sealed: Sequence[str] | Mapping[str, str] = field(default=(), kw_only=True)
    indexes: Sequence[str] = field(default=(), kw_only=True)
    hidden: Sequence[str] = field(default=(), kw_only=True)
    journal: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        blanked = list(self.erase.columns) if isinstance(self.erase, Blank) else []
        try:
            for name in (self.table, self.column, *self.sealed, *self.indexes, *self.hidden, *blanked):
                quoted_name(name)
        except ValueError as error:
            raise SettingsError(f"the place {self.table!r}: {error}") from None
        if not self.person or "/" in self.person or not self.person.isprintable():
            raise SettingsError(f"the place {self.table!r} is of persons of the kind {self.person!r}; write as patient")
        if isinstance(self.erase, Keep) and not 0 < len(self.erase.because) <= MAX_REASON:
            raise SettingsError(f"the place {self.table!r} keeps its rows: say why, in at most {MAX_REASON} characters")
        if isinstance(self.erase, Blank) and (not blanked or self.column in blanked):
            raise SettingsError(
                f"the place {self.table!r} blanks {blanked or 'nothing'}; name columns, and not {self.column!r} itself,"
                " by which its rows are found"
            )

    @classmethod
    def of(
        cls,
        model: type,
        *,
        erase: Rule,
        person: str = "",
        column: str = "",
        hidden: Sequence[str] = (),
        journal: str = "",
    ) -> "Place":
        """The place of an SQLAlchemy or Django model, with its sealed columns and their blind indexes.

        Args:
            model: the class.
            erase: as of a place.
            person: the kind of subject; by default as its sealed columns say, `patient/{number}`.
            column: that has the subject's key; by default as they say.
            hidden: as of a place.
            journal: as of a place.

        Raises:
            SettingsError: it is no model, or nothing says of which persons it is; and as of a place.
        """
        found = sealed_columns(model)
        if not (person or found.kind) or not (column or found.column):
            raise SettingsError(
                f"{model.__qualname__} has no sealed column that says whose its rows are: Place.of(...,"
                " person='patient', column='patient_id')"
            )
        return cls(
            found.table,
            person=person or found.kind,
            column=column or found.column,
            erase=erase,
            sealed=found.sealed,
            indexes=found.indexes,
            hidden=hidden,
            journal=journal,
        )

    def sealed_as(self, column: str) -> str | None:
        """The name that a column is sealed under; None: it is not."""
        if isinstance(self.sealed, Mapping):
            return self.sealed.get(column)
        return f"{self.table}.{column}" if column in self.sealed else None

    @property
    def rows_sql(self) -> str:
        """A query of the person's rows, each as one JSON object; its value is the key."""
        table, column = quoted_name(self.table), quoted_name(self.column)
        return f"SELECT to_jsonb(t) FROM {table} AS t WHERE t.{column} = %s"  # noqa: S608 - names are quoted

    @property
    def erase_sql(self) -> str:
        """What erases them; its values are those that blank, and the key. Empty where all is kept."""
        table, column = quoted_name(self.table), quoted_name(self.column)
        if isinstance(self.erase, Delete):
            return f"DELETE FROM {table} WHERE {column} = %s"  # noqa: S608 - as above
        blanks = ", ".join(f"{quoted_name(name)} = %s" for name in self._blanked)
        return f"UPDATE {table} SET {blanks} WHERE {column} = %s" if blanks else ""  # noqa: S608 - as above

    def erase_values(self, key: str) -> tuple[object, ...]:
        """The values for `erase_sql`."""
        return (key,) if isinstance(self.erase, Delete) else (*self._blanked.values(), key)

    @property
    def _blanked(self) -> Mapping[str, object]:
        columns: Mapping[str, object] = self.erase.columns if isinstance(self.erase, Blank) else {}
        return {**dict.fromkeys(self.indexes), **columns}


def split_subject(subject: str) -> tuple[str, str]:
    """The kind and the key of a subject.

    Raises:
        ValueError: it has not both.
    """
    kind, slash, key = subject.partition("/")
    if not kind or not slash or not key or not subject.isprintable():
        raise ValueError(f"the subject {subject[:100]!r} has no kind and key; write as patient/7")
    return kind, key
