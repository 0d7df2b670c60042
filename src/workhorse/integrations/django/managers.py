"""A manager for models with sealed fields: many rows are sealed and opened at once, and in async views, too."""

# Django has no types, and these are classes of its own.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

from django.db import models

from workhorse.integrations.django.sealing import carried, number_rows, open_waiting, seal_rows
from workhorse.privacy.columns import Whose

__all__ = ["SealedManager", "SealedQuerySet"]

QUERY_SET: Final = cast("Any", models.QuerySet)
MANAGER: Final = cast("Any", models.Manager)


class SealedQuerySet(QUERY_SET):  # type: ignore[misc, valid-type]
    """Rows that are opened as they are fetched, so that nothing is left to ask in the event loop."""

    def _fetch_all(self) -> None:
        super()._fetch_all()
        open_waiting()

    def bulk_create(self, objs: Iterable[Any], *args: Any, **kwargs: Any) -> Any:
        """Create rows, sealed at once."""
        rows = list(objs)
        self._for_write = True  # as Django's own does: the alias is that of writes
        number_rows(rows, self.db)
        seal_rows(rows, self.db)
        return super().bulk_create(rows, *args, **kwargs)

    def bulk_update(self, objs: Iterable[Any], fields: Sequence[str], *args: Any, **kwargs: Any) -> Any:
        """Update rows, sealed at once, with their blind indexes."""
        rows = tuple(objs)
        self._for_write = True
        known = {field.name: field for field in self.model._meta.concrete_fields}  # noqa: SLF001 - Django's word for it
        sealed: list[Any] = [
            known[name] for name in fields if isinstance(getattr(known.get(name), "whose", None), Whose)
        ]
        indexes = [one for one in known.values() if getattr(one, "of", None) in {field.name for field in sealed}]
        if not sealed:
            return super().bulk_update(rows, fields, *args, **kwargs)
        seal_rows(rows, self.db)
        texts = [(row, field.attname, row.__dict__.get(field.attname)) for row in rows for field in sealed]
        try:
            for row in rows:
                for index in indexes:
                    index.pre_save(row, add=False)
                for field in sealed:
                    row.__dict__[field.attname] = carried(row, field)
            return super().bulk_update(rows, [*fields, *(one.name for one in indexes)], *args, **kwargs)
        finally:
            for row, name, text in texts:
                row.__dict__[name] = text


class SealedManager(MANAGER.from_queryset(SealedQuerySet)):  # type: ignore[misc]
    """The manager of `SealedQuerySet`."""
