"""What a column says that is sealed by itself: whose key it is sealed under. SQLAlchemy's and Django's build on it.

    phone: Mapped[Annotated[str, PERSONAL]] = mapped_column(SealedText("patient/{number}"))

The person is named by another column of the same row. In the app's hands the value is text; in the database, and in
whatever is copied from there, it is what `SubjectCipher.seal` makes of it, under the name `table.column`. A column that
is renamed goes on under its former name: `sealed_as=`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from workhorse.errors import SettingsError, WorkhorseError
from workhorse.privacy.sealing import CannotOpen

__all__ = ["CannotSeal", "SealedColumns", "Unopened", "Whose", "sealed_columns"]

_TEMPLATE: Final = re.compile(r"(?P<kind>[^/{}\s]+)/\{(?P<member>[A-Za-z_]\w*)\}\Z")


class CannotSeal(WorkhorseError):
    """A value was about to reach a sealed column, or to be compared with one, as it is."""


class Unopened:
    """A sealed value as it came from the database."""

    __slots__ = ("sealed",)

    def __init__(self, sealed: bytes) -> None:
        self.sealed = sealed

    def __repr__(self) -> str:
        return "<sealed>"


@dataclass(frozen=True, slots=True)
class Whose:
    """Names the person of a row."""

    kind: str
    """Of subjects, as in `patient/7`."""
    member: str
    """The attribute of the row that has the key of the subject."""

    @classmethod
    def parse(cls, template: str) -> "Whose":
        """From the form `patient/{number}`.

        Raises:
            SettingsError: it has another.
        """
        match = _TEMPLATE.match(template)
        if match is None:
            raise SettingsError(
                f"a sealed column is of {template!r}; say whose, by a column of the row: patient/{{id}}"
            )
        return cls(match["kind"], match["member"])

    def __str__(self) -> str:
        return f"{self.kind}/{{{self.member}}}"

    def subject(self, key: object, field: str) -> str:
        """The person with this key.

        Raises:
            CannotSeal: there is no key yet, so nobody can say whose key `field` is to be sealed under.
        """
        if key is None or key == "":
            raise CannotSeal(
                f"{field} is sealed for {self}, and the row has no {self.member!r} as it is written: set it before"
            )
        return f"{self.kind}/{key}"

    def of_stored(self, key: object, field: str) -> str:
        """The person of a row with something sealed.

        Raises:
            CannotOpen: the row names nobody.
        """
        if key is None or key == "":
            raise CannotOpen(f"{field} is sealed for {self}, and the row has no {self.member!r} any more")
        return f"{self.kind}/{key}"


@dataclass(frozen=True, slots=True)
class SealedColumns:
    """What a model says of its sealed columns."""

    table: str
    kind: str
    """Of the persons; empty: none of the columns is sealed."""
    column: str
    """That has the key of the person."""
    sealed: Mapping[str, str]
    """Each column that is sealed, and the name that it is sealed under."""
    indexes: tuple[str, ...]


def sealed_columns(model: type) -> SealedColumns:
    """The sealed columns of an SQLAlchemy or Django model, and the blind indexes beside them.

    Raises:
        SettingsError: it is no such model, or its columns are of several persons.
    """
    table, columns, column_of = _read(model)
    sealed: dict[str, str] = {}
    indexes: list[str] = []
    whose: set[Whose] = set()
    for name, type_ in columns:
        found = getattr(type_, "whose", None)
        if isinstance(found, Whose):
            sealed[name] = getattr(type_, "sealed_as", "") or f"{table}.{name}"
            whose.add(found)
        elif getattr(type_, "is_blind_index", False):
            indexes.append(name)
    if len(whose) > 1:
        said = ", ".join(sorted(str(one) for one in whose))
        raise SettingsError(f"{model.__qualname__} has columns that are sealed for {said}: say a Place for each")
    if not whose:
        return SealedColumns(table, "", "", {}, tuple(indexes))
    (one,) = whose
    return SealedColumns(table, one.kind, column_of(one.member), sealed, tuple(indexes))


def _read(model: type) -> tuple[str, Sequence[tuple[str, Any]], Callable[[str], str]]:
    """The table, its columns with what declares each, and the column of an attribute."""
    meta = getattr(model, "_meta", None)
    if hasattr(meta, "concrete_fields"):  # Django's
        fields = cast("Sequence[Any]", cast("Any", meta).concrete_fields)
        by_name = {name: str(field.column) for field in fields for name in (field.name, field.attname)}
        by_name["pk"] = str(cast("Any", meta).pk.column)
        return str(cast("Any", meta).db_table), [(str(field.column), field) for field in fields], by_name.__getitem__
    table: Any = getattr(model, "__table__", None)
    if table is None:
        raise SettingsError(f"{model.__qualname__} is a model neither of SQLAlchemy nor of Django")
    by_key = {str(prop.key): str(prop.columns[0].name) for prop in cast("Any", model).__mapper__.column_attrs}
    return str(table.fullname), [(str(column.name), column.type) for column in table.columns], by_key.__getitem__
