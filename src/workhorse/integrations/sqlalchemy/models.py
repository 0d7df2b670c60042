"""Which attributes of mapped classes are sealed, and from which classes such ones can be loaded along."""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from sqlalchemy.orm import Mapper

from workhorse.errors import SettingsError
from workhorse.integrations.sqlalchemy.columns import BlindText, SealedText
from workhorse.privacy.columns import Whose

__all__ = ["Blind", "Sealed", "SealedModel", "SealedModels"]


class Sealed(NamedTuple):
    """One sealed attribute."""

    key: str
    field: str
    """The name that it is sealed under: `table.column`."""
    whose: Whose


class Blind(NamedTuple):
    """One blind index."""

    key: str
    of: str
    type: BlindText


class SealedModel(NamedTuple):
    """What is sealed of one mapped class."""

    sealed: tuple[Sealed, ...]
    blind: tuple[Blind, ...]


NOTHING: Final = SealedModel((), ())


class SealedModels:
    """Remembers what is sealed of mapped classes."""

    def __init__(self) -> None:
        self._models: WeakKeyDictionary[Mapper[Any], SealedModel] = WeakKeyDictionary()
        self._reached: WeakKeyDictionary[Mapper[Any], frozenset[type]] = WeakKeyDictionary()

    def of(self, mapper: Mapper[Any]) -> SealedModel:
        """What is sealed of a class.

        Raises:
            SettingsError: a column is sealed for a person, or indexed, by an attribute that the class has not.
        """
        found = self._models.get(mapper)
        if found is None:
            found = self._models[mapper] = _read(mapper)
        return found

    def reached(self, mappers: Iterable[Mapper[Any]]) -> frozenset[type]:
        """The classes with something sealed that a query of these may load, with all that it loads along."""
        reached: frozenset[type] = frozenset()
        for mapper in mappers:
            found = self._reached.get(mapper)
            if found is None:
                found = self._reached[mapper] = self._search(mapper)
            reached |= found
        return reached

    def _search(self, start: Mapper[Any]) -> frozenset[type]:
        seen: set[Mapper[Any]] = set()
        ahead = [start]
        while ahead:
            mapper = ahead.pop()
            if mapper not in seen:
                seen.add(mapper)
                ahead += [*mapper.self_and_descendants, *(one.mapper for one in mapper.relationships)]
        return frozenset(mapper.class_ for mapper in seen if self.of(mapper).sealed)


def _read(mapper: Mapper[Any]) -> SealedModel:
    sealed: list[Sealed] = []
    blind: list[Blind] = []
    for attribute in mapper.column_attrs:
        column = attribute.columns[0]
        if isinstance(column.type, SealedText):
            if column.type.whose.member not in mapper.column_attrs:
                raise SettingsError(
                    f"{mapper.class_.__qualname__}.{attribute.key} is sealed for {column.type.whose}, and"
                    f" {mapper.class_.__qualname__} has no column {column.type.whose.member!r}"
                )
            field = column.type.sealed_as or f"{_table_of(column)}.{column.name}"
            sealed.append(Sealed(attribute.key, field, column.type.whose))
        elif isinstance(column.type, BlindText):
            blind.append(Blind(attribute.key, column.type.of, column.type))
    for one in blind:
        if one.of not in {other.key for other in sealed}:
            raise SettingsError(
                f"{mapper.class_.__qualname__}.{one.key} is a blind index of {one.of!r}, which is not sealed"
            )
    return SealedModel(tuple(sealed), tuple(blind)) if sealed else NOTHING


def _table_of(column: Any) -> str:
    return str(column.table.fullname)
