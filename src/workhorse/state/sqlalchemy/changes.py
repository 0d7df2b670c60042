"""What a session has written of declared models, before and after, as rows of the same savepoint.

A session tells of each flush while the old values are still known. The record is written there and then, on the
session's own connection, so that it stands or falls with the rows, whatever savepoints there are. What goes past the
unit of work of the ORM is seen as far as SQLAlchemy tells: `session.execute(update(Model))` is recorded as a statement
without values; what the app writes by Core or by the driver is not seen.

Of a sealed column (`workhorse.integrations.sqlalchemy`) it says that it was set, and not to what.

A column that was set without having been read has no `before`, unless it is mapped with `active_history=True`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import event, inspect
from sqlalchemy.orm import ORMExecuteState, Session, UOWTransaction

from workhorse.contracts import Query, RowChange
from workhorse.telemetry.redaction import MASK

__all__ = ["watch_changes"]

MAX_KEY: Final = 150
"""Characters of a primary key in a subject."""

Run = Callable[[Session, Query], None]


def watch_changes(
    session: Session, models: Sequence[type], made: Callable[[Sequence[RowChange]], Query], run: Run
) -> None:
    """Record what `session` writes of `models` from now on.

    Args:
        session: of one unit.
        models: mapped classes; those that derive from them count too.
        made: the statement that records changes.
        run: runs it on the session's connection.
    """
    watched = tuple(models)

    def flushed(session: Session, _: UOWTransaction) -> None:
        changes = [_created(row) for row in session.new if isinstance(row, watched)]
        changes += [_deleted(row) for row in session.deleted if isinstance(row, watched)]
        for row in session.dirty:
            if isinstance(row, watched) and row not in session.deleted and (change := _updated(row)) is not None:
                changes.append(change)
        if changes:
            run(session, made(changes))

    def executed(state: ORMExecuteState) -> None:
        mapper = state.bind_mapper
        if mapper is None or not issubclass(mapper.class_, watched):
            return
        verb = "insert" if state.is_insert else "update" if state.is_update else "delete" if state.is_delete else ""
        if verb:
            name = mapper.class_.__name__
            run(state.session, made([RowChange(f"{name}:*", f"bulk {verb}", None, None)]))

    event.listen(session, "after_flush", flushed)
    event.listen(session, "do_orm_execute", executed)


def _created(row: Any) -> RowChange:
    return RowChange(_subject(row), "insert", None, _values(row))


def _deleted(row: Any) -> RowChange:
    return RowChange(_subject(row), "delete", _values(row), None)


def _updated(row: Any) -> RowChange | None:
    before: dict[str, object] = {}
    after: dict[str, object] = {}
    state = inspect(row)
    for attribute in state.mapper.column_attrs:
        history = state.attrs[attribute.key].history
        if history.has_changes():
            if history.deleted:
                before[attribute.key] = _told(attribute, history.deleted[0])
            after[attribute.key] = _told(attribute, history.added[0]) if history.added else None
    return RowChange(_subject(row), "update", before, after) if after else None


def _values(row: Any) -> dict[str, object]:
    """What is loaded of a row: to load the rest would be a query within a flush."""
    state = inspect(row)
    loaded = state.dict
    return {item.key: _told(item, loaded[item.key]) for item in state.mapper.column_attrs if item.key in loaded}


def _told(attribute: Any, value: object) -> object:
    """The value, as the journal may keep it."""
    type_ = attribute.columns[0].type
    is_sealed = hasattr(type_, "whose") or getattr(type_, "is_blind_index", False)
    return MASK if is_sealed and value is not None else value


def _subject(row: Any) -> str:
    state = inspect(row)
    key = "/".join(str(part) for part in state.mapper.primary_key_from_instance(row))
    return f"{type(row).__name__}:{key[:MAX_KEY]}"
