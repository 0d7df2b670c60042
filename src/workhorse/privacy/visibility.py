"""Who may see which classes of data, by scope: for views of records, and for the columns of queries.

    may = Visibility({"records:read": {HEALTH, PERSONAL}, "desk:read": {PERSONAL}}, models=[Patient])
    view(record, Patient, may.classes_for(principal))
    tables = Tables(privacy=may)

Everybody whom a query is for may see what is public and internal. Of the rest a caller sees what the scopes allow
together, and nulls in place of what they do not (minimum necessary: 45 CFR 164.502(b)).
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from workhorse.errors import SettingsError
from workhorse.principal import Principal
from workhorse.privacy.classes import HEALTH, INTERNAL, PUBLIC, SENSITIVE, STRICTNESS, Access, DataClass
from workhorse.privacy.data_map import classes_of

__all__ = ["Visibility"]

FOR_ALL: Final = frozenset((PUBLIC, INTERNAL))
AUDITED: Final = frozenset((SENSITIVE, HEALTH))


class Visibility:
    """Classes of data by the scopes that open them.

    Args:
        by_scope: for each scope the classes that its holders may see.
        models: whose fields give columns of queries their classes, by name. Where two models say two classes of one
            name, the stricter holds.
        audited: classes of which each reading by a query is an event.

    Raises:
        SettingsError: a scope opens card numbers, which nobody may see.
    """

    def __init__(
        self,
        by_scope: Mapping[str, Collection[DataClass]],
        *,
        models: Iterable[type] = (),
        audited: Collection[DataClass] = AUDITED,
    ) -> None:
        self._by_scope = {scope: frozenset(classes) for scope, classes in by_scope.items()}
        for scope, classes in self._by_scope.items():
            if DataClass.CARD in classes:
                raise SettingsError(f"the scope {scope!r} opens card numbers, which are not kept; take CARD out")
        self._audited = frozenset(audited)
        self._columns: dict[str, DataClass] = {}
        for model in models:
            for name, class_ in classes_of(model).items():
                if class_ is not None:
                    known = self._columns.get(name, PUBLIC)
                    self._columns[name] = max(known, class_, key=STRICTNESS.index)

    @property
    def by_scope(self) -> Mapping[str, frozenset[DataClass]]:
        """For each scope what it opens, beside what everybody may see."""
        return dict(self._by_scope)

    def classes_for(self, principal: Principal) -> frozenset[DataClass]:
        """The classes that a caller may see."""
        return FOR_ALL.union(*(classes for scope, classes in self._by_scope.items() if scope in principal.scopes))

    def class_of(self, column: str) -> str | None:
        """The class of a column of results, by its name; None: no model has such a field."""
        class_ = self._columns.get(column)
        return None if class_ is None else class_.value

    def access(self, class_: str, principal: Principal) -> Access:
        """What a caller may do with columns of a class.

        Raises:
            ValueError: there is no such class.
        """
        wanted = DataClass(class_)
        if wanted is DataClass.CARD:
            return Access.REFUSE
        return Access.ALLOW if wanted in self.classes_for(principal) else Access.MASK

    def audited(self, class_: str) -> bool:
        """Whether each reading of such a column is an event of the journal."""
        return DataClass(class_) in self._audited
