"""Seals and opens the sealed columns of Django's rows, with the keys of the project's `WORKHORSE_PRIVACY`.

A row that was loaded has its sealed values unopened. The first that is read has those of all rows opened that the same
thread has loaded and that are still there, by one question for their keys. Rows of other threads are let be: their
transactions may have keys that nobody else sees yet. A row that is saved is sealed just before; what has not changed is
written as it was.
"""

import threading
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from importlib import import_module
from typing import Any, Final, NamedTuple, Self, cast

from asgiref.sync import async_to_sync
from django.conf import settings
from django.db import connections, router

from workhorse.contracts import Query
from workhorse.errors import SettingsError
from workhorse.privacy import Erased, Privacy, SubjectCipher, SubjectKeys
from workhorse.privacy.columns import CannotSeal, Unopened, Whose
from workhorse.sql import load_queries

__all__ = [
    "Carried",
    "alias_of",
    "carried",
    "number_rows",
    "open_rows",
    "open_waiting",
    "privacy_of_project",
    "remember",
    "seal_rows",
]

MAX_WAITING: Final = 1_000
"""Rows that are opened at once."""
KNOWN: Final = "_workhorse_sealed"
# Django has no types.
DJANGO_SETTINGS: Final = cast("Any", settings)
DJANGO_CONNECTIONS: Final = cast("Any", connections)
ROUTER: Final = cast("Any", router)


class _Waiting(threading.local):
    """Rows that this thread has loaded, and that nobody has read yet."""

    def __init__(self) -> None:
        self.rows: deque[weakref.ref[Any]] = deque(maxlen=MAX_WAITING)


WAITING: Final = _Waiting()


class Carried(str):
    """A text on its way into the database, with what it was sealed to."""

    __slots__ = ("sealed",)

    def __new__(cls, text: str, sealed: bytes) -> Self:
        """Carry `sealed` for `text`."""
        made = super().__new__(cls, text)
        made.sealed = sealed
        return made

    sealed: bytes

    def __repr__(self) -> str:
        return "<sealed>"


class Known(NamedTuple):
    """What a row has in the database."""

    text: object
    """Unopened: nobody has read it yet; None: the person was erased."""
    sealed: bytes
    person: str


def privacy_of_project() -> Privacy:
    """What the project's settings name in WORKHORSE_PRIVACY.

    Raises:
        SettingsError: there is no such setting, or it names none, or one without keys.
    """
    name: object = getattr(DJANGO_SETTINGS, "WORKHORSE_PRIVACY", None)
    if not isinstance(name, str) or not name.partition(":")[2]:
        raise SettingsError(
            f"WORKHORSE_PRIVACY is {name!r}, and a model has sealed fields: name the project's Privacy there, as in"
            " WORKHORSE_PRIVACY = 'clinic.privacy:PRIVACY'"
        )
    module, _, attribute = name.partition(":")
    try:
        found: object = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"WORKHORSE_PRIVACY is {name!r}, which cannot be imported: {error}") from error
    if not isinstance(found, Privacy) or found.keys is None:
        raise SettingsError(f"WORKHORSE_PRIVACY is {name!r}, which is no Privacy with keys: Privacy(SubjectKeys(...))")
    return found


def remember(row: Any) -> None:
    """Note a row that was loaded, to be opened with others."""
    values = row.__dict__
    fields = _sealed_fields(row)
    if not any(isinstance(values.get(field.attname), Unopened) for field in fields):
        return
    WAITING.rows.append(weakref.ref(row))
    values[KNOWN] = {
        field.attname: Known(value, value.sealed, field.whose.subject(values[member], _name_of(field)))
        for field in fields
        if isinstance(value := values.get(field.attname), Unopened)
        and values.get(member := _member_of(row, field.whose)) is not None
    }


def open_waiting() -> None:
    """Open all rows that wait."""
    if WAITING.rows:
        open_rows([])


def open_rows(rows: Sequence[Any]) -> None:
    """Open rows, and those that wait with them.

    Raises:
        CannotOpen: one was changed, or moved to another person's row, or the wrapping key is not there.
    """
    among = [*rows, *(row for one in WAITING.rows if (row := one()) is not None)]
    WAITING.rows.clear()
    by_alias: dict[str, list[tuple[Any, Any, Unopened, str]]] = {}
    for row in {id(row): row for row in among}.values():
        for field in _sealed_fields(row):
            value = row.__dict__.get(field.attname)
            if isinstance(value, Unopened):
                known = row.__dict__.get(KNOWN, {}).get(field.attname)
                person = (
                    field.whose.of_stored(_key_of(row, field.whose), _name_of(field)) if known is None else known.person
                )
                by_alias.setdefault(row._state.db, []).append((row, field, value, person))  # noqa: SLF001 - Django's word
    for alias, wanted in by_alias.items():
        ciphers = _find(alias, {person for *_, person in wanted}, make=False)
        for row, field, value, person in wanted:
            cipher = ciphers[person]
            text = None if cipher is None else cipher.open(_name_of(field), value.sealed)
            row.__dict__[field.attname] = text
            row.__dict__.setdefault(KNOWN, {})[field.attname] = Known(text, value.sealed, person)


def seal_rows(rows: Sequence[Any], alias: str) -> None:
    """Seal what is about to be written of rows: `carried` then has it.

    Raises:
        CannotSeal: nobody can say whose a row is, or a value is no text.
        Erased: the person was.
    """
    due: list[tuple[Any, Any, str, str]] = []
    for row in rows:
        for field in _sealed_fields(row):
            value = row.__dict__.get(field.attname)
            known = row.__dict__.get(KNOWN, {}).get(field.attname)
            if value is None:
                continue
            if isinstance(value, Unopened):
                if known is None or known.person == _person_of(row, field):
                    continue
                value = getattr(row, field.attname)  # another person's from now on
                if value is None:
                    continue
            if not isinstance(value, str):
                raise CannotSeal(f"{_name_of(field)} takes a text, and was given a {type(value).__name__}")
            person = _person_of(row, field)
            if known is None or (known.text, known.person) != (value, person):
                due.append((row, field, value, person))
    if not due:
        return
    ciphers = _find(alias, {person for *_, person in due}, make=True)
    for row, field, value, person in due:
        cipher = ciphers[person]
        if cipher is None:
            raise Erased
        sealed = cipher.seal(_name_of(field), value)
        row.__dict__.setdefault(KNOWN, {})[field.attname] = Known(str(value), sealed, person)


def carried(row: Any, field: Any) -> Any:
    """What is to be written of a row that `seal_rows` has seen; None where that has not been."""
    value = row.__dict__.get(field.attname)
    known: Known | None = row.__dict__.get(KNOWN, {}).get(field.attname)
    if isinstance(value, Unopened | Carried):
        return value
    if known is None or known.text != value or known.person != _person_of(row, field):
        return None
    return Unopened(known.sealed) if value is None else Carried(value, known.sealed)


def number_rows(rows: Iterable[Any], alias: str) -> None:
    """Draw the numbers of new rows whose persons are named by them, before the database would."""
    due = [
        row
        for row in rows
        if row.pk is None
        and row._meta.auto_field is not None  # noqa: SLF001 - Django's word for it
        and any(_member_of(row, field.whose) == row._meta.auto_field.attname for field in _sealed_fields(row))  # noqa: SLF001
    ]
    if not due:
        return
    connection = DJANGO_CONNECTIONS[alias]
    meta = due[0]._meta  # noqa: SLF001 - as above
    query = load_queries("workhorse.privacy", "sql/queries.sql")["draw"]
    with connection.cursor() as cursor:
        cursor.execute(query, (connection.ops.quote_name(meta.db_table), meta.auto_field.column, len(due)))
        for row, (number,) in zip(due, cursor.fetchall(), strict=True):
            setattr(row, meta.auto_field.attname, number)


def alias_of(row: Any) -> str:
    """The database that a row is written to, where nobody has said."""
    return str(row._state.db or ROUTER.db_for_write(type(row), instance=row))  # noqa: SLF001 - as above


def _find(alias: str, persons: Collection[str], *, make: bool) -> dict[str, SubjectCipher | None]:
    """The ciphers of persons, asked for on the connection of this thread."""
    steps = cast("SubjectKeys", privacy_of_project().keys).steps(persons, make=make)
    answer: Any = None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration as end:
            return cast("dict[str, SubjectCipher | None]", end.value)
        if isinstance(step, Query):
            with DJANGO_CONNECTIONS[alias].cursor() as cursor:
                cursor.execute(step.sql, step.params)
                answer = cursor.fetchall()
        else:
            answer = async_to_sync(_awaited(step))()


def _awaited(step: Any) -> Callable[[], Any]:
    async def wait() -> Any:
        return await step

    return wait


def _sealed_fields(row: Any) -> Sequence[Any]:
    model: type = row.__class__
    found: Sequence[Any] | None = model.__dict__.get("_workhorse_sealed_fields")
    if found is None:
        fields = cast("Any", model)._meta.concrete_fields  # noqa: SLF001 - as above
        found = tuple(field for field in fields if isinstance(getattr(field, "whose", None), Whose))
        model._workhorse_sealed_fields = found  # type: ignore[attr-defined] # noqa: SLF001
    return found


def _member_of(row: Any, whose: Whose) -> str:
    return str(row._meta.pk.attname) if whose.member == "pk" else whose.member  # noqa: SLF001 - as above


def _key_of(row: Any, whose: Whose) -> object:
    return getattr(row, _member_of(row, whose))


def _person_of(row: Any, field: Any) -> str:
    return str(field.whose.subject(_key_of(row, field.whose), _name_of(field)))


def _name_of(field: Any) -> str:
    """What a value is sealed under."""
    return str(field.sealed_as) or f"{field.model._meta.db_table}.{field.column}"  # noqa: SLF001 - as above
