"""Has sessions seal and open the sealed columns of rows.

What a query loads is opened before its result is handed out, by one question for the keys of all its rows; what is
loaded as a stream, row by row. What a flush writes is sealed within it. While its statements run the attributes have
`Carried` in place of the texts, which stand there again whether it succeeds or fails.

An `AsyncSession` runs all of this in SQLAlchemy's greenlet, where what is async can be awaited. A sync session has the
key service asked by the event loop that its unit lives in, or in a loop made for it.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar, cast

from sqlalchemy import Connection, event, inspect
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Mapper, ORMExecuteState, QueryContext, Session, object_session, sessionmaker
from sqlalchemy.orm.attributes import flag_modified, set_committed_value
from sqlalchemy.util import await_only

from workhorse.contracts import Query
from workhorse.errors import NoUnit
from workhorse.integrations.sqlalchemy.columns import Carried, ColumnNotSealed
from workhorse.integrations.sqlalchemy.models import Sealed, SealedModel, SealedModels
from workhorse.privacy import Erased, SubjectCipher, SubjectKeys
from workhorse.privacy.columns import CannotSeal, Unopened
from workhorse.sql import load_queries
from workhorse.state.sqlalchemy.statements import dollars
from workhorse.units.threads import wait_for
from workhorse.units.work import current_opener

__all__ = ["seal_sessions"]

WIRED: Final = "workhorse.sealed"
SEALING: Final = "workhorse.sealing"
# Said of a class or session itself: SQLAlchemy's `event.contains` goes by ids, which others have after it is gone.
LISTENS: Final = "_workhorse_listens"
T = TypeVar("T")


def seal_sessions(sessions: Any, keys: SubjectKeys) -> None:
    """Have sessions seal and open sealed columns. A `Service` with `privacy=` does it for those of its units.

    Args:
        sessions: a `sessionmaker` or `async_sessionmaker`, for all that it makes from now on; or one session.
        keys: of the persons.
    """
    wired = _Wired(keys)
    if isinstance(sessions, sessionmaker | async_sessionmaker):
        target = _class_of(sessions)
        sessions.configure(info={**(sessions.kw.get("info") or {}), WIRED: wired})
    else:
        target = sessions.sync_session if isinstance(sessions, AsyncSession) else sessions
        target.info[WIRED] = wired
    _listen(target, _OF_SESSIONS)


def _class_of(sessions: Any) -> Any:
    """The class of the sync sessions that it makes, and that no other makes."""
    if isinstance(sessions, sessionmaker):
        return cast("Any", sessions).class_
    of_app = sessions.kw.get("sync_session_class") or sessions.class_.sync_session_class
    if LISTENS in of_app.__dict__:
        return of_app
    made = type(of_app.__name__, (of_app,), {})
    sessions.configure(sync_session_class=made)
    return made


class _Wired:
    """What the sessions of one maker share."""

    def __init__(self, keys: SubjectKeys) -> None:
        self.keys = keys
        self.models = SealedModels()
        self.queries = load_queries("workhorse.privacy", "sql/queries.sql")


class _Sealing:
    """What one session is about."""

    def __init__(self, session: Session, wired: _Wired) -> None:
        self.session = session
        self.wired = wired
        self.loaded: list[Any] | None = None
        """Rows of the query that is being run, to be opened at its end."""
        self.ciphers: dict[str, SubjectCipher | None] = {}
        """Of the flush that is being done."""
        self.carried: list[tuple[Any, str, Carried]] = []

    def open(self, rows: Iterable[Any]) -> None:
        """Open what is sealed of rows that were loaded."""
        wanted: list[tuple[Any, Sealed, Unopened, str]] = []
        for row in rows:
            for sealed in self.wired.models.of(inspect(row).mapper).sealed:
                value = row.__dict__.get(sealed.key)
                if isinstance(value, Unopened):
                    person = sealed.whose.of_stored(getattr(row, sealed.whose.member), sealed.field)
                    wanted.append((row, sealed, value, person))
        if not wanted:
            return
        mapper = inspect(wanted[0][0]).mapper
        ciphers = self.find({person for *_, person in wanted}, mapper, make=False)
        for row, sealed, value, person in wanted:
            cipher = ciphers[person]
            text = None if cipher is None else cipher.open(sealed.field, value.sealed)
            set_committed_value(row, sealed.key, text)

    def find(self, persons: Collection[str], mapper: Mapper[Any], *, make: bool) -> dict[str, SubjectCipher | None]:
        """The ciphers of persons."""
        connection = self.session.connection(bind_arguments={"mapper": mapper})
        steps = self.wired.keys.steps(persons, make=make)
        answer: Any = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                return cast("dict[str, SubjectCipher | None]", end.value)
            answer = _ask(connection, step) if isinstance(step, Query) else _await(connection, step)

    def carry(self, mapper: Mapper[Any], row: Any, *, new: bool) -> None:
        """Seal what is to be written of a row."""
        state = inspect(row)
        for sealed in self.wired.models.of(mapper).sealed:
            value = row.__dict__.get(sealed.key)
            if value is None or isinstance(value, Carried | Unopened):
                continue
            if not new and not state.attrs[sealed.key].history.has_changes():
                continue
            if not isinstance(value, str):
                raise ColumnNotSealed(f"{sealed.field} takes a text, and was given a {type(value).__name__}")
            person = _person_of(row, sealed)
            if person not in self.ciphers:
                self.ciphers |= self.find([person], mapper, make=True)
            cipher = self.ciphers[person]
            if cipher is None:
                raise Erased
            carried = Carried(value, cipher.seal(sealed.field, value))
            self.carried.append((row, sealed.key, carried))
            row.__dict__[sealed.key] = carried

    def end_flush(self) -> None:
        """Put the texts back."""
        self.ciphers = {}
        carried, self.carried = self.carried, []
        for row, key, value in carried:
            if row.__dict__.get(key) is value:
                row.__dict__[key] = value.plain


def _sealing_of(session: Session | None) -> _Sealing | None:
    wired = None if session is None else session.info.get(WIRED)
    if session is None or wired is None:
        return None
    found = session.info.get(SEALING)
    if found is None:
        found = session.info[SEALING] = _Sealing(session, wired)
    return cast("_Sealing", found)


def _on_execute(execution: ORMExecuteState) -> Any:
    """Run a query, and open what it loads before anybody sees it."""
    sealing = _sealing_of(execution.session)
    if sealing is None or not (execution.is_select or execution.is_insert or execution.is_update):
        return None
    reached = sealing.wired.models.reached(execution.all_mappers)
    for model in reached:
        _listen(model, _OF_MODELS)
    options = execution.execution_options
    if not reached or not execution.is_select or options.get("yield_per") or options.get("stream_results"):
        return None  # as a stream: `_on_load` opens row by row
    outer, sealing.loaded = sealing.loaded, []
    try:
        result: Any = execution.invoke_statement()
        whole = result.freeze()()
        # What has joined rows is to be asked for its unique ones; a frozen result has forgotten that.
        whole._unique_filter_state = result._unique_filter_state  # noqa: SLF001
        loaded = sealing.loaded
    finally:
        sealing.loaded = outer
    sealing.open(loaded)
    return whole


def _on_load(row: Any, context: QueryContext) -> None:
    sealing = _sealing_of(context.session)
    if sealing is None:
        return
    if sealing.loaded is None:
        sealing.open([row])
    else:
        sealing.loaded.append(row)


def _on_refresh(row: Any, context: QueryContext, _attributes: Any) -> None:
    _on_load(row, context)


def _on_before_flush(session: Session, _context: Any, _instances: Any) -> None:
    """Get the keys of all whose rows are about to be written."""
    sealing = _sealing_of(session)
    if sealing is None:
        return
    due = [
        (row, sealed)
        for row in (*session.new, *session.dirty)
        for sealed in _due_of(row, sealing.wired.models.of(inspect(row).mapper))
    ]
    if not due:
        return
    keyless: dict[Mapper[Any], list[tuple[Any, Sealed]]] = {}
    for row, sealed in due:
        _give_default(row, sealed)
        if getattr(row, sealed.whose.member) is None:
            keyless.setdefault(inspect(row).mapper, []).append((row, sealed))
    for mapper, rows in keyless.items():
        _number(sealing, mapper, rows)
    persons = {_person_of(row, sealed) for row, sealed in due if getattr(row, sealed.whose.member) is not None}
    if persons:
        sealing.ciphers = sealing.find(persons, inspect(due[0][0]).mapper, make=True)


def _due_of(row: Any, model: SealedModel) -> Iterator[Sealed]:
    """What has to be sealed of a row that is about to be written. Its blind indexes follow."""
    if not model.sealed:
        return
    state = inspect(row)
    _listen(state.mapper.class_, _OF_MODELS)
    for sealed in model.sealed:
        if state.persistent and state.attrs[sealed.whose.member].history.has_changes():
            getattr(row, sealed.key)  # it may not be loaded
            flag_modified(row, sealed.key)  # another person's from now on
        changed = not state.persistent or state.attrs[sealed.key].history.has_changes()
        if changed and isinstance(row.__dict__.get(sealed.key), str):
            yield sealed
    for blind in model.blind:
        text = row.__dict__.get(blind.of)
        if state.attrs[blind.of].history.has_changes() and (text is None or isinstance(text, str)):
            setattr(row, blind.key, None if text is None else blind.type.index_of(text))


def _give_default(row: Any, sealed: Sealed) -> None:
    """Give the key of the person the default that the model says, such as `uuid4`, which comes too late otherwise."""
    if getattr(row, sealed.whose.member) is not None:
        return
    default = inspect(row).mapper.column_attrs[sealed.whose.member].columns[0].default
    if default is not None and default.is_scalar:
        setattr(row, sealed.whose.member, default.arg)
    elif default is not None and default.is_callable:
        setattr(row, sealed.whose.member, default.arg(None))


def _number(sealing: _Sealing, mapper: Mapper[Any], rows: list[tuple[Any, Sealed]]) -> None:
    """Draw the numbers of rows that the database would number as it writes them.

    What is another row's number is left alone: perhaps this flush makes it, and it is known by the time of the INSERT.
    """
    for member in {sealed.whose.member for _, sealed in rows}:
        number = _numbered(mapper, member)
        due = list({id(row): row for row, sealed in rows if sealed.whose.member == member}.values())
        if number is None:
            continue
        connection = sealing.session.connection(bind_arguments={"mapper": mapper})
        table = connection.dialect.identifier_preparer.format_table(number.table)
        drawn = _ask(connection, Query(sealing.wired.queries["draw"], (table, number.name, len(due))))
        for row, (value,) in zip(due, drawn, strict=True):
            setattr(row, member, value)


def _numbered(mapper: Mapper[Any], member: str) -> Any:
    """The column of an attribute that the database numbers, in the table of a class or of one that it derives from."""
    columns = cast("Iterable[Any]", mapper.column_attrs[member].columns)
    return next((one for one in columns if one.table.autoincrement_column is one), None)


def _on_insert(mapper: Mapper[Any], _connection: Connection, row: Any) -> None:
    sealing = _sealing_of(object_session(row))
    if sealing is not None:
        sealing.carry(mapper, row, new=True)


def _on_update(mapper: Mapper[Any], _connection: Connection, row: Any) -> None:
    sealing = _sealing_of(object_session(row))
    if sealing is not None:
        sealing.carry(mapper, row, new=False)


def _on_after_flush(session: Session, _context: Any) -> None:
    sealing = _sealing_of(session)
    if sealing is not None:
        sealing.end_flush()


def _on_rollback(session: Session, _transaction: Any) -> None:
    _on_after_flush(session, None)


def _person_of(row: Any, sealed: Sealed) -> str:
    try:
        return sealed.whose.subject(getattr(row, sealed.whose.member), sealed.field)
    except CannotSeal as error:
        raise ColumnNotSealed(str(error)) from None


def _ask(connection: Connection, query: Query) -> list[Any]:
    sql, params = query.sql, tuple(query.params)
    if connection.dialect.driver == "asyncpg":
        sql, params = dollars(sql, params)
    return [tuple(row) for row in connection.exec_driver_sql(sql, params).fetchall()]


def _await(connection: Connection, step: Coroutine[Any, Any, T]) -> T:
    """Await what is async, from within a session."""
    if connection.dialect.is_async:
        return await_only(step)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:  # a sync session in the event loop keeps it waiting for its statements, too
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, step).result()
    try:
        loop = current_opener().loop
    except NoUnit:
        return asyncio.run(step)
    return wait_for(loop, step)


def _listen(target: Any, listeners: Mapping[str, Callable[..., Any]]) -> None:
    """Listen once. On a class of models nothing happens for sessions that do not seal."""
    if LISTENS not in target.__dict__:
        setattr(target, LISTENS, True)
        for name, listener in listeners.items():
            event.listen(target, name, listener)


_OF_SESSIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "do_orm_execute": _on_execute,
    "before_flush": _on_before_flush,
    "after_flush": _on_after_flush,
    "after_soft_rollback": _on_rollback,
}
_OF_MODELS: Final[Mapping[str, Callable[..., Any]]] = {
    "load": _on_load,
    "refresh": _on_refresh,
    "before_insert": _on_insert,
    "before_update": _on_update,
}
